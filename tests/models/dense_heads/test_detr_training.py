"""Twenty training steps with our head give the losses that mmdet's head gives."""

import pytest
import torch

from mmplugins.hosts import problem_with

if problem_with('mmdet'):
    pytest.skip(problem_with('mmdet'), allow_module_level=True)

from mmdet.models.detectors import DETR
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from tests.models.dense_heads.detr_models import LOSS_CLS, OUR_COSTS, TOOLBOX_COSTS

STEPS, WIDTH, CLASSES = 20, 32, 4


def build(ours: bool) -> DETR:
    """A DETR of one encoder and three decoder layers on a ResNet-18."""
    attention = dict(embed_dims=WIDTH, num_heads=4, dropout=0.0, batch_first=True)
    feedforward = dict(embed_dims=WIDTH, feedforward_channels=64, ffn_drop=0.0)
    scope = 'mmplugins.' if ours else ''
    assigner = dict(
        type='mmplugins.BatchHungarianAssigner' if ours else 'HungarianAssigner',
        match_costs=OUR_COSTS if ours else TOOLBOX_COSTS,
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DETR(
            num_queries=10,
            backbone=dict(type='ResNet', depth=18, num_stages=4, out_indices=(3,), norm_eval=True),
            neck=dict(type='ChannelMapper', in_channels=[512], kernel_size=1, out_channels=WIDTH, num_outs=1),
            encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=feedforward)),
            decoder=dict(
                num_layers=3,
                layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=feedforward),
                return_intermediate=True,
            ),
            positional_encoding=dict(num_feats=WIDTH // 2, normalize=True),
            bbox_head=dict(type=f'{scope}DETRHead', num_classes=CLASSES, embed_dims=WIDTH, loss_cls=dict(LOSS_CLS)),
            train_cfg=dict(assigner=assigner),
            test_cfg=dict(max_per_img=10),
        )


def make_batch(step: int) -> tuple[torch.Tensor, list[DetDataSample]]:
    """Three images of 64 x 96 pixels with 0 to 6 bright squares each."""
    generator = torch.Generator().manual_seed(step)
    images = 0.1 * torch.randn(3, 3, 64, 96, generator=generator)
    samples = []
    for image in images:
        count = int(torch.randint(0, 7, (), generator=generator))
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([76.0, 44.0])
        boxes = torch.cat((corner, corner + 8 + 12 * torch.rand(count, 2, generator=generator)), 1)
        labels = torch.randint(0, CLASSES, (count,), generator=generator)
        for (x1, y1, x2, y2), label in zip(boxes.long().tolist(), labels.tolist(), strict=True):
            image[label % 3, y1:y2, x1:x2] += 1 + label
        meta = {'img_shape': (64, 96), 'batch_input_shape': (64, 96), 'pad_shape': (64, 96), 'scale_factor': (1, 1)}
        samples.append(DetDataSample(metainfo=meta))
        samples[-1].gt_instances = InstanceData(bboxes=boxes, labels=labels)
    return images, samples


def train(ours: bool, dtype: torch.dtype, optimizer: type, **settings) -> list[dict[str, float]]:
    model = build(ours).train().to(dtype)
    optimizer = optimizer(model.parameters(), weight_decay=1e-4, **settings)
    history = []
    for step in range(STEPS):
        images, samples = make_batch(step)
        for sample in samples:
            sample.gt_instances.bboxes = sample.gt_instances.bboxes.to(dtype)
        loss, log = model.parse_losses(model(images.to(dtype), samples, mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in log.items()})
    return history


@pytest.mark.slow
@pytest.mark.parametrize(
    'settings',
    [
        dict(dtype=torch.float32, optimizer=torch.optim.SGD, lr=0.02, momentum=0.9),
        # AdamW takes a full step along a gradient that is all rounding, so in float32 two runs drift apart.
        dict(dtype=torch.float64, optimizer=torch.optim.AdamW, lr=2e-4),
    ],
    ids=['SGD', 'AdamW'],
)
def test_twenty_steps_equal_the_toolbox_s(settings):
    theirs, ours = train(ours=False, **settings), train(ours=True, **settings)
    assert len(ours) == STEPS
    for step, (expected, found) in enumerate(zip(theirs, ours, strict=True)):
        assert set(found) - set(expected) == {'class_error', 'cardinality_error'}
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-4), f'{name} at step {step}'
    assert ours[-1]['loss'] < 0.9 * ours[0]['loss']
