import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmplugins.functional.masks import product
from mmplugins.testing import assert_relative, load_golden
from tests.locations import golden_files

pytest.importorskip('mmdet', reason='Mask2FormerHead is a dense head of mmdet')

from mmplugins.models.dense_heads import Mask2FormerHead
from tests.models.dense_heads.mask_head_contract import MaskHeadContract
from tests.models.mask_models import features, predictions, sample, small_head


class TestMask2FormerHead(MaskHeadContract):
    model = 'Mask2Former'

    @pytest.mark.parametrize('path', golden_files('mask2former_[0-9].npz'))
    def test_golden(self, path):
        """The released losses and gradients at the released points, up to mmdet's average.

        mmdet divides by the matched pairs, an image without objects counted as one; the released code by the objects.
        """
        golden = load_golden(path)
        classes, layers = golden['num_classes'], golden['num_layers']
        logits, masks = golden['logits'].requires_grad_(), golden['mask_logits'].requires_grad_()
        images, queries = logits.shape[1:3]
        head = small_head('Mask2Former', classes=(classes, 0), num_queries=queries, num_points=golden['num_points'])
        assert isinstance(head, Mask2FormerHead)
        truth = [InstanceData(labels=golden[f'gt_labels{b}'], masks=golden[f'gt_masks{b}']) for b in range(images)]
        match_coords = [[golden[f'match_coords_{i}_{b}'] for b in range(images)] for i in range(layers)]
        match_coords = torch.stack([torch.stack(layer) for layer in match_coords])
        loss_coords = [golden[f'loss_coords_{i}'] for i in range(layers)]
        losses = head.loss_by_feat(
            list(logits), list(masks), truth, [{}] * images, match_coords=match_coords, loss_coords=loss_coords
        )
        counts = [len(one.labels) for one in truth]
        factor = max(sum(counts), 1) / sum(max(min(count, queries), 1) for count in counts)
        for layer in range(layers):
            place = '' if layer == layers - 1 else f'_{layer}'
            prefix = '' if layer == layers - 1 else f'd{layer}.'
            assert_relative(losses[f'{prefix}loss_cls'], 2 * golden[f'out.loss_ce{place}'], 1e-5)
            assert_relative(losses[f'{prefix}loss_mask'], 5 * factor * golden[f'out.loss_mask{place}'], 1e-5)
            assert_relative(losses[f'{prefix}loss_dice'], 5 * factor * golden[f'out.loss_dice{place}'], 1e-5)
        sum(losses.values()).backward()
        assert_relative(logits.grad, golden['grad_logits'], 1e-5, 'gradient of the logits')
        assert_relative(masks.grad, factor * golden['grad_masks'], 1e-5, 'gradient of the masks')

    @pytest.mark.parametrize(
        'losses',
        [
            {},
            dict(loss_mask=dict(type='mmdet.FocalLoss', use_sigmoid=True, loss_weight=3.0)),
            dict(loss_dice=dict(type='mmdet.DiceLoss', naive_dice=False, eps=0.1)),
            dict(loss_cls=dict(type='CountingCrossEntropyLoss', class_weight=[0.5] * 6 + [0.2])),
        ],
        ids=['usual', 'loss_mask', 'loss_dice', 'loss_cls'],
    )
    def test_equals_the_toolbox_at_the_same_points(self, monkeypatch, losses):
        """Also an image without objects, one with more objects than queries, and other losses than the usual."""
        from mmdet.models.dense_heads import mask2former_head as toolbox

        samples = [sample(3), sample(0, seed=1, num_stuff=0), sample(12, seed=2)]
        ours, theirs = (self.head(ours, **losses) for ours in (True, False))
        logits, masks = predictions(batch=3)
        generator = torch.Generator().manual_seed(0)
        match_coords = torch.rand(3, 3, 64, 2, generator=generator)
        loss_coords = [torch.rand(5 + 12, 64, 2, generator=generator) for _ in range(3)]
        drawn, chosen = iter(match_coords.flatten(0, 1)[:, None]), iter(loss_coords)
        monkeypatch.setattr(toolbox, 'get_uncertain_point_coords_with_randomness', lambda *args: next(chosen))
        found = []
        for head, coords in ((ours, dict(match_coords=match_coords, loss_coords=loss_coords)), (theirs, {})):
            targets, metas = self.targets(head, samples), [one.metainfo for one in samples]
            with monkeypatch.context() as patch:
                if head is theirs:
                    patch.setattr(torch, 'rand', lambda *args, **kwargs: next(drawn))
                values = head.loss_by_feat(list(logits), list(masks), targets, metas, **coords)
            found.append((values, torch.autograd.grad(sum(values.values()).sum(), [logits, masks])))
        for name, value in found[1][0].items():
            assert_relative(found[0][0][name], value.detach().squeeze(), 1e-5, name)
        for first, second in zip(found[0][1], found[1][1], strict=True):
            assert_relative(first, second, 1e-5)

    def test_statistically_equals_the_toolbox(self):
        """Means over seeds agree within four standard errors; the spread within a half."""
        samples, outputs = [sample(3), sample(2, seed=1)], predictions()
        found = []
        for ours in (True, False):
            head = self.head(ours, num_points=100)
            targets, values = self.targets(head, samples), []
            for seed in range(60):
                torch.manual_seed(seed)
                losses = head.loss_by_feat(*outputs, targets, [one.metainfo for one in samples])
                values.append([float(value.detach()) for name, value in losses.items() if 'loss' in name])
            found.append(np.array(values))
        ours, theirs = found
        error = np.sqrt((ours.var(0) + theirs.var(0)) / len(ours))
        assert (np.abs(ours.mean(0) - theirs.mean(0)) <= 4 * error + 1e-6).all()
        spread = ours[:, 1:3].std(0) / theirs[:, 1:3].std(0)
        assert ((spread > 2 / 3) & (spread < 3 / 2)).all()

    def test_sampling_follows_the_config(self):
        head = self.head(train=dict(num_points=10, oversample_ratio=2.0, importance_sample_ratio=0.5))
        mask_loss = head.criterion.mask_loss
        settings = mask_loss.num_points, mask_loss.oversample_ratio, mask_loss.importance_sample_ratio
        assert settings == (10, 2.0, 0.5)
        head.loss(features(), [sample(3), sample(2, seed=1)])

    def test_only_matched_rows_are_multiplied(self, monkeypatch):
        """A subclass that predicts the mask logits by itself gets the whole gradient."""

        class Subclass(type(self.head())):
            def _forward_head(self, *args):
                scores, masks, hidden = super()._forward_head(*args)
                return scores, masks * 1, hidden

        samples, found, rows = [sample(3), sample(2, seed=1)], [], []
        original = product._rows_backward
        monkeypatch.setattr(product, '_rows_backward', lambda *args: rows.append(len(args[3])) or original(*args))
        for kind, calls in ((type(self.head()), 3), (Subclass, 0)):
            head = self.head()
            head.__class__ = kind
            scores, masks = head(features(), samples)
            torch.manual_seed(0)
            targets = self.targets(head, samples)
            losses = head.loss_by_feat(scores, masks, targets, [one.metainfo for one in samples])
            del rows[:]
            sum(value for name, value in losses.items() if 'loss' in name).backward()
            assert rows == [sum(len(one.labels) for one in targets)] * calls
            found.append({name: parameter.grad for name, parameter in head.named_parameters()})
        assert found[0]['mask_embed.4.weight'].abs().sum() > 0
        for name, gradient in found[0].items():
            if gradient is not None:
                assert_relative(gradient, found[1][name], 1e-5, name)
