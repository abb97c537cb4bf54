import pytest
import torch
from mmengine.structures import InstanceData

from mmplugins.testing import assert_relative, load_golden
from tests.locations import golden_files

pytest.importorskip('mmdet', reason='MaskFormerHead is a dense head of mmdet')

from mmplugins.models.dense_heads import MaskFormerHead
from tests.models.dense_heads.mask_head_contract import MaskHeadContract
from tests.models.mask_models import predictions, sample, small_head


class TestMaskFormerHead(MaskHeadContract):
    model = 'MaskFormer'

    @pytest.mark.parametrize('path', golden_files('maskformer_[0-9].npz'))
    def test_golden(self, path):
        """The released losses and gradients, up to mmdet's average; see Mask2Former's test."""
        golden = load_golden(path)
        logits, masks = golden['logits'].requires_grad_(), golden['mask_logits'].requires_grad_()
        layers, images, queries = logits.shape[:3]
        head = small_head('MaskFormer', classes=(golden['num_classes'], 0), num_queries=queries)
        assert isinstance(head, MaskFormerHead)
        truth = [InstanceData(labels=golden[f'gt_labels{b}'], masks=golden[f'gt_masks{b}']) for b in range(images)]
        losses = head.loss_by_feat(logits, masks, truth, [{}] * images)
        counts = [len(one.labels) for one in truth]
        factor = max(sum(counts), 1) / sum(max(min(count, queries), 1) for count in counts)
        for layer in range(layers):
            place = '' if layer == layers - 1 else f'_{layer}'
            prefix = '' if layer == layers - 1 else f'd{layer}.'
            assert_relative(losses[f'{prefix}loss_cls'], golden[f'out.loss_ce{place}'], 1e-5)
            assert_relative(losses[f'{prefix}loss_mask'], 20 * factor * golden[f'out.loss_mask{place}'], 1e-5)
            assert_relative(losses[f'{prefix}loss_dice'], factor * golden[f'out.loss_dice{place}'], 1e-5)
        sum(losses.values()).backward()
        assert_relative(logits.grad, golden['grad_logits'], 1e-5, 'gradient of the logits')
        if factor == 1:  # it weighs class and mask losses differently
            assert_relative(masks.grad, golden['grad_masks'], 1e-5, 'gradient of the masks')
        assert_relative(masks.grad, factor * golden['grad_masks'], 1e-5, 'gradient of the masks')

    @pytest.mark.parametrize(
        'losses',
        [
            {},
            dict(loss_mask=dict(type='mmdet.FocalLoss', use_sigmoid=True, alpha=0.4, gamma=1.5, loss_weight=3.0)),
            dict(loss_mask=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True)),
            dict(loss_dice=dict(type='mmdet.DiceLoss', naive_dice=False, eps=0.1)),
            dict(loss_cls=dict(type='CountingCrossEntropyLoss', class_weight=[0.5] * 6 + [0.2])),
        ],
        ids=['usual', 'focal settings', 'loss_mask', 'loss_dice', 'loss_cls'],
    )
    def test_equals_the_toolbox(self, losses):
        """Losses and gradients; also without objects, with more objects than queries, and with other losses."""
        samples = [sample(3), sample(0, seed=1, num_stuff=0), sample(12, seed=2)]
        logits, masks = predictions(batch=3)
        found = []
        for ours in (True, False):
            head = self.head(ours, **losses)
            targets, metas = self.targets(head, samples), [one.metainfo for one in samples]
            values = head.loss_by_feat(logits, masks, targets, metas)
            found.append((values, torch.autograd.grad(sum(values.values()).sum(), [logits, masks])))
        for name, value in found[1][0].items():
            assert_relative(found[0][0][name], value.detach().squeeze(), 1e-5, name)
        for first, second in zip(found[0][1], found[1][1], strict=True):
            assert_relative(first, second, 5e-5)

    def test_gradcheck(self):
        logits, masks = (part.detach().double() for part in predictions(2, 1, 3, size=(4, 6)))
        target = InstanceData(labels=torch.tensor([0, 3]), masks=torch.ones(2, 9, 13).bool())
        target.masks[0, :5] = False
        head = self.head(num_queries=3)

        def total(logits, masks):
            return sum(head.loss_by_feat(logits, masks, [target], [{}]).values())

        assert torch.autograd.gradcheck(total, (logits.requires_grad_(), masks.requires_grad_()))
