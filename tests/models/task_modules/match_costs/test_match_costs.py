import subprocess
import sys

import pytest
import torch
from mmengine.structures import InstanceData

from mmplugins.models.task_modules.match_costs import (
    BBoxL1Cost,
    ClassificationCost,
    CrossEntropyLossCost,
    DiceCost,
    FocalLossCost,
    IoUCost,
)
from mmplugins.registry import TASK_UTILS
from tests.models.task_modules.match_costs.cost_contract import (
    META,
    MaskCostContract,
    MatchCostContract,
    ground_truths,
    needs_mmdet,
    predictions,
)


class TestClassificationCost(MatchCostContract):
    cost_type = 'ClassificationCost'


class TestBBoxL1Cost(MatchCostContract):
    cost_type = 'BBoxL1Cost'


class TestBBoxL1CostOfCentres(MatchCostContract):
    cost_type = 'BBoxL1Cost'
    settings = {'box_format': 'xywh'}


class TestGIoUCost(MatchCostContract):
    cost_type = 'IoUCost'


class TestIoUCost(MatchCostContract):
    cost_type = 'IoUCost'
    settings = {'iou_mode': 'iou'}


class TestFocalLossCost(MatchCostContract):
    cost_type = 'FocalLossCost'


class TestFocalLossCostWithSettings(MatchCostContract):
    cost_type = 'FocalLossCost'
    settings = {'alpha': 0.4, 'gamma': 1.5, 'eps': 1e-6}


class TestFocalLossCostOfMasks(MaskCostContract):
    cost_type = 'FocalLossCost'
    settings = {'binary_input': True, 'alpha': 0.6}


class TestCrossEntropyLossCost(MaskCostContract):
    cost_type = 'CrossEntropyLossCost'


class TestDiceCost(MaskCostContract):
    cost_type = 'DiceCost'
    settings = {'pred_act': True, 'eps': 1.0}


class TestDiceCostOfProbabilities(MaskCostContract):
    cost_type = 'DiceCost'

    def predictions(self, dtype=torch.float32):
        pred = predictions()
        pred.masks = pred.masks.sigmoid()
        return InstanceData(**{name: value.to(dtype) for name, value in pred.items()})


class TestSquaredDiceCost(MaskCostContract):
    cost_type = 'DiceCost'
    settings = {'pred_act': True, 'naive_dice': False}


def test_by_hand():
    """One query, one object on an image 10 wide and 5 high: 2/10 + 1/5 + 4/10 + 2/5; class 1/2; of 4 pixels 3 right."""
    pred = InstanceData(
        scores=torch.zeros(1, 2), bboxes=torch.tensor([[0.0, 0, 4, 2]]), masks=torch.tensor([[40.0, 40, -40, -40]])
    )
    true = InstanceData(
        labels=torch.tensor([1]), bboxes=torch.tensor([[2.0, 1, 8, 4]]), masks=torch.tensor([[1, 0, 0, 0]])
    )
    meta = {'img_shape': (5, 10)}
    assert BBoxL1Cost()(pred, true, meta).item() == pytest.approx(1.2)
    assert BBoxL1Cost('xywh')(pred, true, meta).item() == pytest.approx(0.3 + 0.3 + 0.2 + 0.2)
    assert IoUCost('iou')(pred, true).item() == pytest.approx(-2 / 24)
    assert IoUCost('iof')(pred, true).item() == pytest.approx(-2 / 8)
    assert IoUCost()(pred, true).item() == pytest.approx(-(2 / 24 - (32 - 24) / 32))
    assert ClassificationCost()(pred, true).item() == -0.5
    assert CrossEntropyLossCost()(pred, true).item() == pytest.approx(10)
    assert DiceCost(pred_act=True, eps=1.0)(pred, true).item() == pytest.approx(1 - 3 / 4)
    assert DiceCost(pred_act=True, eps=0, naive_dice=False)(pred, true).item() == pytest.approx(1 - 2 / 3)
    masks = FocalLossCost(binary_input=True, alpha=0.25, eps=0)
    assert masks(pred, true).item() == pytest.approx(0.75 * 40 / 4)


# Errors


def test_unknown_settings():
    with pytest.raises(AssertionError, match=r"box_format must be one of \('xyxy', 'xywh'\), got 'cxcywh'; DETR comp"):
        BBoxL1Cost(box_format='cxcywh')
    cost = IoUCost(iou_mode='diou')  # as in mmdet, only the call complains
    with pytest.raises(AssertionError, match=r"iou_mode must be one of \('iou', 'iof', 'giou'\), got 'diou'; DETR use"):
        cost(predictions(), ground_truths())
    cost = CrossEntropyLossCost(use_sigmoid=False)
    with pytest.raises(
        NotImplementedError, match=r'expects use_sigmoid=True, got False; use ClassificationCost for a s'
    ):
        cost(predictions(), ground_truths())


@pytest.mark.parametrize('meta', [None, {'pad_shape': (3, 4)}])
def test_l1_cost_needs_the_size_of_the_image(meta):
    message = r"needs img_meta\['img_shape'\], \(height, width\) in pixels, got .*; pass dict\(img_shape=\(1, 1\)\) for"
    with pytest.raises(ValueError, match=message):
        BBoxL1Cost()(predictions(), ground_truths(), meta)


def test_wrong_shapes():
    pred, true = predictions(), ground_truths()
    with pytest.raises(ValueError, match=r'expected boxes \(\.\.\., 4\), got \(3, 6, 5\)'):
        IoUCost()(InstanceData(bboxes=pred.scores), true)
    with pytest.raises(ValueError, match=r'expected integer labels \(G,\), got \(4,\) of torch.float32'):
        ClassificationCost()(pred, InstanceData(labels=torch.rand(4)))


# Hosts


@needs_mmdet
def test_box_types_of_mmdet():
    from mmdet.structures.bbox import HorizontalBoxes

    pred, true = predictions(), ground_truths()
    wrapped = InstanceData(bboxes=HorizontalBoxes(true.bboxes))
    for cost in (BBoxL1Cost(), BBoxL1Cost('xywh'), IoUCost()):
        assert torch.equal(cost(pred, wrapped, META), cost(pred, true, META))


@needs_mmdet
@pytest.mark.parametrize('default_scope', ['mmdet', 'mmplugins', None])
def test_the_prefix_chooses_ours(default_scope):
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(default_scope):
        assert type(TASK_UTILS.build({'type': 'mmplugins.DiceCost'})) is DiceCost


def test_no_host_is_imported():
    code = (
        'import sys; from mmplugins.registry import TASK_UTILS; TASK_UTILS.build(dict(type="DiceCost"));'
        'print([name for name in sys.modules if name in ("mmseg", "mmdet", "mmcv")])'
    )
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize(
    'cost',
    [
        *(ClassificationCost(), BBoxL1Cost('xywh'), IoUCost(), FocalLossCost(), FocalLossCost(binary_input=True)),
        *(CrossEntropyLossCost(), DiceCost(pred_act=True)),
    ],
    ids=repr,
)
def test_cuda_equals_cpu_without_waiting(cost):
    pred, true = predictions(), ground_truths()
    valid = torch.arange(80).view(8, 10) % 3 != 1
    expected = cost(pred, true, META, valid=valid, stacked=True)
    pred, true, valid = pred.to('cuda'), true.to('cuda'), valid.cuda()
    torch.cuda.set_sync_debug_mode('error')
    try:
        value = cost(pred, true, META, valid=valid, stacked=True)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    torch.testing.assert_close(value.cpu(), expected)
