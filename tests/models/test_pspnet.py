"""Deep supervision is plain config: main + 0.4 x auxiliary (CriterionDSN, CriterionOhemDSN)."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope

from mmplugins.hosts import problem_with

if problem := problem_with('mmseg'):
    pytest.skip(problem, allow_module_level=True)

from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

OHEM = dict(type='mmplugins.OhemCrossEntropyLoss', thresh=0.7, min_kept=100)
CE = dict(type='CrossEntropyLoss', avg_non_ignore=True)


def pspnet(loss):
    init_default_scope('mmseg')
    shared = dict(num_classes=5, norm_cfg=dict(type='BN'), align_corners=True, dropout_ratio=0)
    backbone = dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(type='BN'))
    return MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(**backbone, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
            decode_head=dict(type='PSPHead', in_channels=64, in_index=3, channels=8, loss_decode=loss, **shared),
            auxiliary_head=dict(
                **dict(type='FCNHead', in_channels=32, in_index=2, channels=8, num_convs=1, concat_input=False),
                loss_decode=dict(**CE, loss_weight=0.4),
                **shared,
            ),
        )
    )


@pytest.mark.parametrize('loss', [CE, OHEM], ids=['CriterionDSN', 'CriterionOhemDSN'])
def test_total_is_the_formula(loss):
    torch.manual_seed(0)
    model = pspnet(loss).train()
    image = torch.randn(2, 3, 48, 56)
    label = torch.randint(0, 5, (2, 48, 56))
    label[:, :5] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=item[None])) for item in label]
    total, _ = model.parse_losses(model.loss(image, samples))

    features = model.extract_feat(image)
    main, auxiliary = (
        F.interpolate(head(features), (48, 56), mode='bilinear', align_corners=True)
        for head in (model.decode_head, model.auxiliary_head)
    )
    pixel_loss = F.cross_entropy(main, label, ignore_index=255, reduction='none')
    kept = label != 255
    if loss is OHEM:
        prob = main.softmax(1).gather(1, label.clamp(max=4)[:, None])[:, 0]
        kept &= prob <= max(0.7, prob[kept].sort().values[99])
    expected = pixel_loss[kept].mean() + 0.4 * F.cross_entropy(auxiliary, label, ignore_index=255)
    torch.testing.assert_close(total, expected)


def test_losses_stand_together():
    losses = [OHEM, dict(type='mmplugins.TopKCrossEntropyLoss', hard_example_mining_step=0), CE]
    model = pspnet([*losses, dict(type='mmplugins.SoftJaccardLoss')])
    label = torch.randint(0, 5, (2, 48, 56))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=item[None])) for item in label]
    losses = model.loss(torch.randn(2, 3, 48, 56), samples)
    assert {'decode.loss_ohem', 'decode.loss_topk', 'decode.loss_ce', 'decode.loss_jaccard'} <= set(losses)
    total, log = model.parse_losses(losses)
    total.backward()
    assert 'decode.ohem_kept' not in log
