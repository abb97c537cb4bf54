"""Losses and costs under autocast in both half precisions: huge logits give finite values, in float32."""

import inspect

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData

from mmplugins.functional.compat import FLOAT16_ON_CPU_SINCE, VERSION
from mmplugins.models.losses import BaseLoss
from mmplugins.models.losses.mask_loss import BaseMaskLoss
from mmplugins.models.task_modules.match_costs.base import BaseMatchCost
from mmplugins.registry import MODELS, TASK_UTILS
from tests.models.losses.set_scenes import hungarian, total

DTYPES = [
    torch.bfloat16,
    pytest.param(
        torch.float16,
        marks=pytest.mark.skipif(VERSION < FLOAT16_ON_CPU_SINCE, reason='no autocast in float16 on the CPU'),
    ),
]
HUGE = 1e4  # float16 holds it


def registered(registry, base: type) -> list:
    registry.import_from_location()
    found = [cls for cls in registry.module_dict.values() if inspect.isclass(cls) and issubclass(cls, base)]
    return [pytest.param(cls, id=cls.__name__) for cls in found]


LOSSES, MASK_LOSSES = registered(MODELS, BaseLoss), registered(MODELS, BaseMaskLoss)
COSTS = registered(TASK_UTILS, BaseMatchCost)


def test_there_are_some():
    assert len(LOSSES) >= 6
    assert len(MASK_LOSSES) == 2
    assert len(COSTS) == 6


def huge(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """Logits of 10,000 of either sign, which require a gradient."""
    signs = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return (HUGE * signs).to(dtype).requires_grad_()


def check(losses: dict, logits: torch.Tensor) -> None:
    assert losses
    for name, value in losses.items():
        assert value.dtype == torch.float32, name
        assert value.isfinite(), name
    sum(losses.values()).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('cls', LOSSES)
def test_pixel_losses(cls, dtype):
    MessageHub.get_current_instance().update_info('iter', 0)
    binary = cls.__name__ in ('StructureLoss', 'BCEIoULoss', 'SoftIoULoss')
    logits = huge(2, 1 if binary else 5, 24, 28, dtype=dtype)
    label = torch.randint(0, 2 if binary else 5, (2, 24, 28), generator=torch.Generator().manual_seed(1))
    with torch.autocast('cpu', dtype=dtype):
        value = cls()(logits, label)
    assert value > 0
    check({cls.__name__: value}, logits)


@pytest.mark.usefixtures('each_path')
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('cls', MASK_LOSSES)
def test_mask_losses(cls, dtype):
    logits = huge(3, 10, 12, dtype=dtype)
    masks = torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(1)) < 0.4
    with torch.autocast('cpu', dtype=dtype):
        losses = cls()(logits, masks)
    check(losses, logits)


@pytest.mark.usefixtures('each_path')
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('cls', COSTS)
def test_match_costs(cls, dtype):
    """Boxes of 10,000 pixels, too."""
    boxes = torch.tensor([[0.0, 0, HUGE, HUGE], [0, 0, 10, 10]])
    settings = {'pred_act': True} if cls.__name__ == 'DiceCost' else {}
    settings |= {'binary_input': True} if cls.__name__ == 'FocalLossCost' else {}
    with torch.no_grad(), torch.autocast('cpu', dtype=dtype):
        pred = InstanceData(scores=huge(2, 5, dtype=dtype), masks=huge(2, 60, dtype=dtype), bboxes=boxes.to(dtype))
        truth = InstanceData(labels=torch.tensor([0, 4]), masks=torch.rand(2, 60) < 0.4, bboxes=boxes.flip(0))
        cost = cls(**settings)(pred, truth, {'img_shape': (10000, 10000)})
    assert cost.dtype == torch.float32
    assert cost.shape == (2, 2)
    assert cost.isfinite().all()


def criterion(masks: str, on_invalid: str = 'raise'):
    costs = [
        dict(type='mmplugins.ClassificationCost', weight=2.0),
        dict(type='mmplugins.CrossEntropyLossCost', weight=5.0),
        dict(type='mmplugins.DiceCost', weight=5.0, pred_act=True, eps=1.0),
    ]
    return MODELS.build(
        dict(
            type='mmplugins.SetCriterion',
            num_classes=4,
            losses=('labels', 'masks'),
            mask_loss=dict(type=f'mmplugins.{masks}'),
            assigner={**hungarian(*costs), 'on_invalid': on_invalid},
        )
    )


def scene(dtype: torch.dtype) -> tuple[dict, list[dict]]:
    masks = torch.rand(2, 32, 40, generator=torch.Generator().manual_seed(1)) < 0.4
    outputs = {'logits': huge(2, 1, 6, 5, dtype=dtype), 'masks': huge(2, 1, 6, 8, 10, dtype=dtype)}
    return outputs, [{'labels': torch.tensor([0, 3]), 'masks': masks}]


@pytest.mark.usefixtures('each_path')
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('masks', ['PointSampledMaskLoss', 'DenseMaskLoss'])
def test_the_criterion(masks, dtype):
    outputs, targets = scene(dtype)
    with torch.autocast('cpu', dtype=dtype):
        losses = criterion(masks)(outputs, targets)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    total(losses).backward()
    assert all(value.grad.isfinite().all() for value in outputs.values())


@pytest.mark.usefixtures('each_path')
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('masks', ['PointSampledMaskLoss', 'DenseMaskLoss'])
def test_what_overflowed_is_named(masks, dtype):
    """Logits that are infinite already, in the second layer: no loss can mend that."""
    outputs, targets = scene(dtype)
    with torch.no_grad():
        outputs['masks'][1, 0, 2] = torch.inf
    message = r'are not in layer 1, image 0 \(a\.jpg\), by term CrossEntropyLossCost: 2'
    with torch.autocast('cpu', dtype=dtype), pytest.raises(ValueError, match=message):
        criterion(masks)(outputs, targets, [{'img_path': 'a.jpg'}])
