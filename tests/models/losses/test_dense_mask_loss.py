import pytest
import torch
import torch.nn.functional as F

from mmplugins.functional import resizing
from mmplugins.functional.masks import dense
from mmplugins.hosts import problem_with
from mmplugins.models.losses import DenseMaskLoss
from tests.locations import golden_files
from tests.models.losses.mask_loss_contract import MaskLossContract, layer_losses, match_inputs

needs_mmdet = pytest.mark.skipif(bool(problem_with('mmdet')), reason='needs mmdet')
FOCAL = {'type': 'mmdet.FocalLoss', 'use_sigmoid': True, 'gamma': 2.0, 'alpha': 0.25, 'loss_weight': 20.0}
DICE = {
    **{'type': 'mmdet.DiceLoss', 'use_sigmoid': True, 'activate': True, 'reduction': 'mean', 'naive_dice': True},
    **{'eps': 1.0, 'loss_weight': 3.0},
}


class TestDenseMaskLoss(MaskLossContract):
    loss_type = 'DenseMaskLoss'

    @pytest.mark.parametrize('path', golden_files('maskformer_[0-9].npz') + golden_files('detr_3.npz'))
    def test_golden(self, path):
        self.golden_case(path)

    @pytest.mark.parametrize('path', golden_files('maskformer_1.npz'))
    @needs_mmdet
    def test_golden_with_mmdets_losses(self, path):
        one = {'loss_weight': 1.0}
        self.golden_case(path, loss_mask={**FOCAL, **one}, loss_dice={**DICE, **one})
        self.golden_case(path, loss_mask=called(FOCAL, **one), loss_dice=called(DICE, **one))

    def test_by_hand(self):
        """All logits 0, a quarter of the pixels foreground.

        Focal: (1/2)^2 log 2 times the mean of alpha over pixels, 1/4 * 1/4 + 3/4 * 3/4 = 5/8: 0.10830. Dice on 64 x 64
        pixels: 1 - (2 * 1024 / 2 + 1) / (4096 / 2 + 1024 + 1) = 1 - 1025 / 3073 = 0.66645.
        """
        masks = torch.zeros(1, 64, 64, dtype=torch.bool)
        masks[:, :32, :32] = True
        losses = self.build()(torch.zeros(1, 16, 16), masks)
        assert float(losses['loss_mask']) == pytest.approx(0.108304, abs=1e-6)
        assert float(losses['loss_dice']) == pytest.approx(0.666450, abs=1e-6)

    def test_without_focus_it_is_the_cross_entropy(self):
        logits, masks = self.example()
        full = F.interpolate(logits[:, None], masks.shape[1:], mode='bilinear', align_corners=False)[:, 0]
        value = self.build(alpha=0.5, gamma=0.0)(logits, masks)['loss_mask']
        torch.testing.assert_close(2 * value, F.binary_cross_entropy_with_logits(full, masks.float()))

    def test_settings_are_checked(self):
        with pytest.raises(ValueError, match=r'alpha is the share of the foreground, 0 to 1, got 2; 0\.25 is usual'):
            self.build(alpha=2)
        with pytest.raises(ValueError, match='gamma must not be negative, got -1; 0 gives the cross entropy'):
            self.build(gamma=-1)

    def test_repr_shows_the_settings(self):
        assert 'alpha=0.25, gamma=2.0' in repr(self.build())

    @pytest.mark.parametrize('soft', [False, True])
    @pytest.mark.parametrize('ignore', [False, True])
    def test_blocks_of_any_size_give_the_same(self, monkeypatch, soft, ignore):
        logits, masks = self.example()
        masks = masks.float() * 0.8 + 0.1 if soft else masks
        valid = self.regions()[0] if ignore else None
        results = []
        for block in (1, 200, 1 << 16):
            monkeypatch.setattr(resizing, '_PIXELS', block)
            monkeypatch.setattr(dense, '_CPU_PIXELS', block)
            leaf = logits.clone().requires_grad_()
            losses = self.build()(leaf, masks, valid=valid)
            results.append([*losses.values(), torch.autograd.grad(sum(losses.values()), leaf)[0]])
        for values in results[1:]:
            for value, expected in zip(values, results[0], strict=True):
                torch.testing.assert_close(value, expected)

    def test_ignored_pixels_are_left_out(self):
        """Against autograd on the upsampled logits; a pixel takes part unless it or one of its logits is ignored."""
        logits, masks = self.example()
        valid, cells = self.regions()
        touched = F.interpolate(cells[None, None].float(), (40, 52), mode='bilinear', align_corners=False)[0, 0] > 0
        part = valid & ~touched
        assert part[:, 22:38].sum() == 0  # half a logit on either side of the region
        assert part[:, :22].sum() == 39 * 22
        full = F.interpolate(logits[:, None], (40, 52), mode='bilinear', align_corners=False)[:, 0][:, part]
        target = masks[:, part].float()
        prob = full.sigmoid()
        miss = prob + target - 2 * prob * target
        entropy = F.binary_cross_entropy_with_logits(full, target, reduction='none')
        focal = (0.25 * target + 0.75 * (1 - target)) * miss.square() * entropy
        dice = 1 - (2 * (prob * target).sum(1) + 1) / ((prob + target).sum(1) + 1)
        losses = self.build()(logits, masks, valid=valid)
        torch.testing.assert_close(losses['loss_mask'], focal.mean(1).mean())
        torch.testing.assert_close(losses['loss_dice'], dice.mean())

    def test_without_gradient_nothing_is_kept(self):
        logits, masks = self.example()
        expected = self.build()(logits.requires_grad_(), masks)
        with torch.no_grad():
            losses = self.build()(logits, masks)
        assert not any(value.requires_grad for value in losses.values())
        for name, value in losses.items():
            torch.testing.assert_close(value, expected[name].detach())

    def test_matching_compares_at_the_size_of_the_logits(self):
        """Masks are shrunk to the nearest pixel, as the released matcher and mmdet do; the logits are a view."""
        logits, masks, *_ = self.layers()
        for image, found in enumerate(match_inputs(self.build(), logits, masks)):
            nearest = F.interpolate(masks[image][None].float(), (10, 13), mode='nearest')[0]
            assert torch.equal(found['gt'], nearest.flatten(1).expand(3, -1, -1))
            assert torch.equal(found['pred'], logits[:, image].flatten(2))
            assert found['valid'] is None
            assert found['pred'].data_ptr() == logits[:, image].data_ptr()

    def test_points_are_refused(self):
        logits, masks, matches, factor = self.layers()
        with pytest.raises(ValueError, match='takes no point_coords; leave it None, or use PointSampledMaskLoss'):
            layer_losses(self.build(), logits, masks, matches, factor, [torch.rand(6, 50, 2)] * 3)
        with pytest.raises(ValueError, match='takes no match_coords'):
            match_inputs(self.build(), logits, masks, torch.rand(3, 2, 50, 2))

    # Losses given as configs

    @needs_mmdet
    def test_mmdets_losses_equal_the_built_in_ones(self):
        logits, masks, matches, factor = self.layers(images=3)
        built_in = self.build()
        for valid in (None, [self.regions()[0], None, None]):
            expected = layer_losses(built_in, logits, masks, matches, factor, valid=valid)
            for loss_mask, loss_dice in ((FOCAL, DICE), (called(FOCAL), called(DICE)), (None, called(DICE))):
                loss = self.build(loss_mask=loss_mask, loss_dice=loss_dice)
                losses = layer_losses(loss, logits, masks, matches, factor, valid=valid)
                factor_mask = 1 if loss_mask is None else 20
                torch.testing.assert_close(losses['loss_mask'], factor_mask * expected['loss_mask'])
                torch.testing.assert_close(losses['loss_dice'], 3 * expected['loss_dice'])

    @needs_mmdet
    def test_the_settings_of_mmdets_focal_loss_are_taken_over(self):
        loss = self.build(loss_mask={**FOCAL, 'alpha': 0.4, 'gamma': 1.0})
        assert (loss.alpha, loss.gamma, loss.mask_weight) == (0.4, 1.0, 20.0)
        logits, masks = self.example()
        torch.testing.assert_close(
            loss(logits, masks)['loss_mask'], 20 * self.build(alpha=0.4, gamma=1.0)(logits, masks)['loss_mask']
        )

    @needs_mmdet
    def test_called_losses_stay_attached_without_pairs(self):
        logits = torch.zeros(0, 10, 13, requires_grad=True)
        loss = self.build(loss_mask=called(FOCAL), loss_dice=called(DICE))
        losses = loss(logits, torch.zeros(0, 40, 52, dtype=torch.bool))
        sum(losses.values()).backward()
        assert [value.item() for value in losses.values()] == [0, 0]

    @needs_mmdet
    def test_soft_masks_are_rounded_for_called_losses(self):
        logits, masks = self.example()
        soft = masks * 0.6 + 0.2
        loss = self.build(loss_mask=called(FOCAL), loss_dice=called(DICE))
        for name, value in loss(logits, soft).items():
            torch.testing.assert_close(value, loss(logits, masks)[name])


def called(config, **settings):
    """A subclass of mmdet's loss, as a user might write it: it is not recognised."""
    from mmdet.registry import MODELS

    loss = MODELS.build({**config, **settings})
    loss.__class__ = type('Called', (type(loss),), {'__module__': __name__})
    return loss


def test_it_has_no_parameters():
    assert list(DenseMaskLoss().parameters()) == []
