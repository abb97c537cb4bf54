import pytest
import torch
import torch.nn.functional as F

from mmplugins.hosts import problem_with
from mmplugins.models.losses import PointSampledMaskLoss
from tests.locations import golden_files
from tests.models.losses.mask_loss_contract import MaskLossContract, layer_losses, match_inputs

needs_mmdet = pytest.mark.skipif(bool(problem_with('mmdet')), reason='needs mmdet')
BCE = {'type': 'mmdet.CrossEntropyLoss', 'use_sigmoid': True, 'reduction': 'mean', 'loss_weight': 5.0}
DICE = {
    **{'type': 'mmdet.DiceLoss', 'use_sigmoid': True, 'activate': True, 'reduction': 'mean', 'naive_dice': True},
    **{'eps': 1.0, 'loss_weight': 2.0},
}


class TestPointSampledMaskLoss(MaskLossContract):
    loss_type = 'PointSampledMaskLoss'
    settings = {'num_points': 60}
    on_points = True

    @pytest.mark.parametrize('path', golden_files('mask2former_[0-9].npz'))
    def test_golden(self, path):
        self.golden_case(path)

    @pytest.mark.parametrize('path', golden_files('mask2former_2.npz'))
    @needs_mmdet
    def test_golden_with_mmdets_losses(self, path):
        one = {'loss_weight': 1.0}
        self.golden_case(path, loss_mask={**BCE, **one}, loss_dice={**DICE, **one})
        self.golden_case(path, loss_mask=called(BCE, **one), loss_dice=called(DICE, **one))

    def test_settings_are_checked(self):
        with pytest.raises(ValueError, match='num_points must be at least 1, got 0'):
            self.build(num_points=0)
        with pytest.raises(ValueError, match='oversample_ratio must be at least 1'):
            self.build(oversample_ratio=0.5)
        with pytest.raises(ValueError, match='importance_sample_ratio is a share, 0 to 1'):
            self.build(importance_sample_ratio=2)

    def test_points_are_checked(self):
        logits, masks = self.example()
        with pytest.raises(
            ValueError, match=r'expected point_coords \(M, P, 2\) .* M of \[3\], .* got \[\(2, 50, 2\)\]'
        ):
            self.build()(logits, masks, point_coords=torch.rand(2, 50, 2))
        layers, masks, *_ = self.layers()
        with pytest.raises(ValueError, match=r'expected match_coords \(3, 2, P, 2\), .* got \(2, 3, 9, 2\)'):
            match_inputs(self.build(), layers, masks, torch.rand(2, 3, 9, 2))

    def test_no_points_at_all(self):
        logits, masks = self.example()
        assert all(
            float(value) == 0 for value in self.build()(logits, masks, point_coords=torch.rand(3, 0, 2)).values()
        )

    def test_repr_shows_the_settings(self):
        assert 'num_points=60, oversample_ratio=3.0, importance_sample_ratio=0.75' in repr(self.build())

    def test_a_generator_repeats_its_draws(self):
        logits, masks = self.example()
        one, two = (self.build()(logits, masks, generator=torch.Generator().manual_seed(4)) for _ in range(2))
        assert one == two
        assert one != self.build()(logits, masks, generator=torch.Generator().manual_seed(5))

    def test_drawn_points_estimate_the_loss_on_all_pixels(self):
        """With uniform points, an unbiased estimate; 20,000 points on smooth logits are within two percent."""
        logits, masks = self.example()
        loss = self.build(num_points=20000, importance_sample_ratio=0.0)
        values = loss(logits, masks, generator=torch.Generator().manual_seed(0))
        full = F.interpolate(logits[:, None], masks.shape[1:], mode='bilinear', align_corners=False)[:, 0]
        expected = F.binary_cross_entropy_with_logits(full, masks.float())
        torch.testing.assert_close(values['loss_mask'], expected, rtol=2e-2, atol=0)

    def test_ignored_points_are_not_in_the_mean(self):
        """Right predictions left, wrong ones right: without the right half the loss is that of the left, nearly 0.

        Not quite: towards the image's edge logits fade to the 0 that counts as outside.
        """
        logits, masks = torch.full((1, 10, 10), -9.0), torch.zeros(1, 40, 40, dtype=torch.bool)
        masks[:, :, 20:] = True
        valid = ~masks[0]
        values = self.build(num_points=500)(logits, masks, valid=valid, generator=torch.Generator().manual_seed(0))
        assert float(values['loss_mask']) < 1e-2
        assert float(self.build(num_points=500)(logits, masks)['loss_mask']) > 3

    def test_matching_compares_what_is_at_the_points(self):
        logits, masks, *_ = self.layers()
        coords = torch.rand(3, 2, 30, 2)
        for image, found in enumerate(match_inputs(self.build(), logits, masks, coords)):
            assert found['valid'] is None
            for layer in range(3):
                grid = (2 * coords[layer, image] - 1)[None, None]
                pred = F.grid_sample(logits[layer, image][None], grid, align_corners=False)[0, :, 0]
                truth = F.grid_sample(masks[image][None].float(), grid, align_corners=False)[0, :, 0]
                torch.testing.assert_close(found['pred'][layer], pred)
                torch.testing.assert_close(found['gt'][layer], truth, rtol=0, atol=1e-6)

    def test_matching_draws_a_set_of_points_for_each_layer_and_image(self):
        logits, masks, *_ = self.layers(images=3)
        found = match_inputs(self.build(), logits, masks, generator=torch.Generator().manual_seed(0))
        assert [entry['pred'].shape for entry in found] == [(3, 6, 60), (3, 6, 60), (3, 6, 1)]
        assert [entry['gt'].shape for entry in found] == [(3, 4, 60), (3, 2, 60), (3, 0, 1)]
        assert not torch.equal(found[0]['pred'][0], found[0]['pred'][1])

    @pytest.mark.parametrize('dtype', [torch.float16, torch.float64])
    def test_matching_precision(self, dtype):
        logits, masks, *_ = self.layers()
        coords = torch.rand(3, 2, 30, 2)
        found = match_inputs(self.build(), logits.to(dtype), masks, coords)[0]
        assert found['pred'].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        expected = match_inputs(self.build(), logits.to(dtype).float(), masks, coords)[0]
        torch.testing.assert_close(found['pred'].float(), expected['pred'], rtol=1e-4, atol=1e-4)

    # Losses given as configs

    @needs_mmdet
    def test_mmdets_losses_equal_the_built_in_ones(self):
        """Recognised and called alike, pixels left out or not."""
        logits, masks, matches, factor, coords = self.layers()
        built_in = self.build()
        for valid in (None, [self.regions()[0], None]):
            expected = layer_losses(built_in, logits, masks, matches, factor, coords, valid)
            for loss_mask, loss_dice in ((BCE, DICE), (called(BCE), called(DICE)), (called(BCE), None)):
                loss = self.build(loss_mask=loss_mask, loss_dice=loss_dice)
                assert (loss.mask_weight is None) == (loss_mask is not BCE)
                losses = layer_losses(loss, logits, masks, matches, factor, coords, valid)
                torch.testing.assert_close(losses['loss_mask'], 5 * expected['loss_mask'])
                factor_dice = 1 if loss_dice is None else 2
                torch.testing.assert_close(losses['loss_dice'], factor_dice * expected['loss_dice'])

    @needs_mmdet
    def test_other_settings_of_mmdets_losses_are_called(self):
        assert self.build(loss_mask={**BCE, 'class_weight': [2.0]}).mask_weight is None
        assert self.build(loss_dice={**DICE, 'naive_dice': False}).dice_weight is None
        assert self.build(loss_dice={**DICE, 'eps': 0.5}).dice_weight is None
        logits, masks, matches, factor, coords = self.layers()
        loss = self.build(loss_mask={'type': 'mmdet.FocalLoss', 'loss_weight': 20.0}, loss_dice={**DICE, 'eps': 0.5})
        losses = layer_losses(loss, logits.requires_grad_(), masks, matches, factor, coords)
        assert torch.autograd.grad(sum(v.sum() for v in losses.values()), logits)[0].abs().sum() > 0

    @needs_mmdet
    def test_called_losses_stay_attached_without_pairs(self):
        logits = torch.zeros(0, 10, 13, requires_grad=True)
        loss = self.build(loss_mask=called(BCE), loss_dice=called(DICE))
        losses = loss(logits, torch.zeros(0, 40, 52, dtype=torch.bool))
        sum(losses.values()).backward()
        assert [value.item() for value in losses.values()] == [0, 0]


def called(config, **settings):
    """A subclass of mmdet's loss, as a user might write it: it is not recognised."""
    from mmdet.registry import MODELS

    loss = MODELS.build({**config, **settings})
    loss.__class__ = type('Called', (type(loss),), {'__module__': __name__})
    return loss


def test_it_is_a_module_of_its_own():
    loss = PointSampledMaskLoss()
    assert loss.num_points == 12544
    assert list(loss.parameters()) == []
