import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmplugins.functional.sets.costs import (
    bce_mask_cost,
    box_l1_cost,
    classification_cost,
    dice_mask_cost,
    focal_label_cost,
    focal_mask_cost,
)

MASK_COSTS = {
    'bce': bce_mask_cost,
    'focal': focal_mask_cost,
    'dice': lambda logits, masks, valid=None: dice_mask_cost(logits, masks, valid, sigmoid=True),
    'dice_squared': lambda logits, masks, valid=None: dice_mask_cost(logits, masks, valid, 1.0, False, sigmoid=True),
}
each_mask_cost = pytest.mark.parametrize('cost', [pytest.param(cost, id=name) for name, cost in MASK_COSTS.items()])


def example(layers=(3,), queries=5, objects=4, points=11, seed=0, dtype=torch.float64):
    """Mask logits (..., Q, P) and masks, bool, (G, P)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(*layers, queries, points, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.rand(objects, points, generator=generator) < 0.4


def by_pair(loss, logits, masks, valid=None):
    """The mean over valid points of a loss of each pair, as a tensor (..., Q, G, P) tells it."""
    logits, masks = torch.broadcast_tensors(logits.unsqueeze(-2), masks.to(logits.dtype).unsqueeze(-3))
    values = loss(logits, masks)
    if valid is None:
        return values.mean(-1)
    valid = valid.to(logits.dtype)[..., None, None, :]
    return (values * valid).sum(-1) / valid.sum(-1)


def entropy(logits, masks):
    return F.binary_cross_entropy_with_logits(logits, masks, reduction='none')


def focal(logits, masks, alpha=0.25, gamma=2.0):
    """Between 0 and 1 a target is a mixture of both, as in mmdet's cost."""
    prob = logits.sigmoid()
    as_one, as_zero = -alpha * (1 - prob) ** gamma * prob.log(), -(1 - alpha) * prob**gamma * (1 - prob).log()
    return masks * as_one + (1 - masks) * as_zero


def some_valid(points=11):
    return torch.arange(points) % 3 != 1


# Errors


@each_mask_cost
def test_numbers_of_points_must_agree(cost):
    logits, masks = example()
    message = r'must have the same number of points, got \[11, 10\]; sample or resize them alike'
    with pytest.raises(ValueError, match=message):
        cost(logits, masks[:, :10])
    with pytest.raises(ValueError, match=r'same number of points, got \[11, 11, 9\]'):
        cost(logits, masks, torch.ones(9))


@pytest.mark.parametrize('cost', [classification_cost, focal_label_cost])
@pytest.mark.parametrize('labels', [torch.zeros(2, 1, dtype=torch.long), torch.zeros(3)])
def test_labels_must_be_a_list_of_integers(cost, labels):
    with pytest.raises(ValueError, match=r'expected integer labels \(G,\), got .*; give each object one class'):
        cost(torch.zeros(5, 4), labels)


def test_unknown_box_format_raises():
    with pytest.raises(ValueError, match=r"box_format must be one of \('xyxy', 'xywh'\), got 'cxcywh'; DETR compares"):
        box_l1_cost(torch.zeros(2, 4), torch.zeros(3, 4), box_format='cxcywh')
    with pytest.raises(ValueError, match=r'expected boxes \(\.\.\., 4\), got \(2, 5\)'):
        box_l1_cost(torch.zeros(2, 5), torch.zeros(3, 4))


# Shapes


@each_mask_cost
def test_shapes(cost):
    logits, masks = example((2, 3))
    assert cost(logits, masks).shape == (2, 3, 5, 4)
    assert cost(logits, masks.expand(2, 3, 4, 11)).shape == (2, 3, 5, 4)
    assert cost(logits[0, 0], masks).shape == (5, 4)
    assert cost(logits, masks[:0]).shape == (2, 3, 5, 0)
    assert cost(logits[:, :, :0], masks).shape == (2, 3, 0, 4)
    assert classification_cost(torch.zeros(2, 3, 5, 6), torch.tensor([5, 0])).shape == (2, 3, 5, 2)
    assert box_l1_cost(torch.zeros(2, 5, 4), torch.zeros(3, 4)).shape == (2, 5, 3)


# Values


def test_classification_by_hand():
    """Logits 0 and log 3: probabilities 1/4 and 3/4."""
    logits = torch.tensor([[0, math.log(3)]])
    assert classification_cost(logits, torch.tensor([1, 0, 1])).flatten().tolist() == pytest.approx(
        [-0.75, -0.25, -0.75]
    )


def test_focal_label_by_hand():
    """Logit log 3, p = 3/4: as a 1 it costs 1/4 (1/4)^2 log(4/3), as a 0 3/4 (3/4)^2 log 4."""
    cost = focal_label_cost(torch.tensor([[math.log(3)]]), torch.tensor([0]))
    assert cost.item() == pytest.approx(math.log(4 / 3) / 64 - 27 / 64 * math.log(4))


def test_box_l1_by_hand():
    """Boxes 0 0 4 2 and 1 1 3 3: corners differ by 1 each; centres by 0 and 1, sizes by 2 and 0."""
    first, second = torch.tensor([[0.0, 0, 4, 2]]), torch.tensor([[1.0, 1, 3, 3]])
    assert box_l1_cost(first, second).item() == 4
    assert box_l1_cost(first, second, box_format='xywh').item() == 3
    assert box_l1_cost(first, second, (4, 2)).item() == 1.5  # 1/4 + 1/2 twice
    assert box_l1_cost(first, second, (4, 2), 'xywh').item() == 1


def test_box_l1_is_cdist():
    first, second = torch.rand(3, 6, 4), torch.rand(5, 4)
    torch.testing.assert_close(box_l1_cost(first, second), torch.cdist(first, second.expand(3, 5, 4), p=1))


@pytest.mark.parametrize('valid', [None, some_valid(), torch.rand(11), torch.rand(3, 11) + 0.1])
@pytest.mark.parametrize(('cost', 'loss'), [(bce_mask_cost, entropy), (focal_mask_cost, focal)])
def test_means_are_over_valid_points(cost, loss, valid):
    logits, masks = example()
    torch.testing.assert_close(cost(logits, masks, valid), by_pair(loss, logits, masks, valid))
    soft = torch.rand(3, 4, 11, dtype=torch.float64)
    torch.testing.assert_close(cost(logits, soft, valid), by_pair(loss, logits, soft, valid))


@pytest.mark.parametrize('naive', [True, False])
@pytest.mark.parametrize('valid', [None, some_valid(), torch.rand(11)])
def test_dice_is_its_definition(naive, valid):
    logits, masks = example(())
    masks = masks * torch.rand(11, dtype=torch.float64)
    prob, weight = logits.sigmoid(), torch.ones(11) if valid is None else valid.double()
    power = 1 if naive else 2
    cost = dice_mask_cost(prob, masks, valid, 0.5, naive)
    for q in range(5):
        for g in range(4):
            inter = (weight * prob[q] * masks[g]).sum()
            size = (weight * (prob[q] ** power + masks[g] ** power)).sum()
            assert cost[q, g].item() == pytest.approx((1 - (2 * inter + 0.5) / (size + 0.5)).item())


# Identities


@each_mask_cost
@pytest.mark.parametrize('layered', [False, True])
def test_layers_together_equal_one_by_one(cost, layered):
    logits, masks = example(dtype=torch.float32)
    masks = torch.stack([masks.roll(layer, 1) for layer in range(3)]) if layered else masks
    valid = torch.stack([some_valid().roll(layer) for layer in range(3)]) if layered else some_valid()
    together = cost(logits, masks, valid)
    for layer in range(3):
        alone = cost(logits[layer], masks[layer] if layered else masks, valid[layer] if layered else valid)
        torch.testing.assert_close(together[layer], alone)


@each_mask_cost
def test_leaving_points_out_is_not_having_them(cost):
    logits, masks = example()
    valid = some_valid()
    torch.testing.assert_close(cost(logits, masks, valid), cost(logits[..., valid], masks[:, valid]))
    torch.testing.assert_close(cost(logits, masks, torch.ones(11)), cost(logits, masks))


@each_mask_cost
def test_no_valid_point_costs_nothing(cost):
    logits, masks = example()
    assert torch.count_nonzero(cost(logits, masks, torch.zeros(11))) == 0
    assert torch.count_nonzero(cost(logits[..., :0], masks[:, :0])) == 0


@each_mask_cost
@pytest.mark.parametrize('dtype', [torch.uint8, torch.int64, torch.float32, torch.float16])
def test_dtype_of_masks_changes_nothing(cost, dtype):
    logits, masks = example(dtype=torch.float32)
    assert torch.equal(cost(logits, masks.to(dtype)), cost(logits, masks))


# Large logits


@each_mask_cost
@settings(max_examples=25, deadline=None)
@given(size=st.floats(0, 1e30), seed=st.integers(0, 100))
def test_large_logits_do_not_overflow(cost, size, seed):
    logits, masks = example(seed=seed, dtype=torch.float32)
    logits = (size * logits.sign()).requires_grad_()
    value = cost(logits, masks, some_valid())
    assert torch.isfinite(value).all()
    assert torch.isfinite(torch.autograd.grad(value.sum(), logits)[0]).all()


@pytest.mark.parametrize('size', [1.0, 20.0, 100.0, 1e4])
def test_bce_of_certain_masks(size):
    """All points right cost log(1 + exp(-size)), all wrong size more."""
    masks = torch.ones(1, 9)
    cost = bce_mask_cost(torch.tensor([[size], [-size]]).expand(2, 9), masks)
    right = math.log1p(math.exp(-size))
    assert cost.flatten().tolist() == pytest.approx([right, right + size], abs=1e-6 * size)


def test_focal_logarithms_end_at_eps():
    """A certain 0 at a ground truth of 1 costs alpha times -log eps, as in mmdet; with eps 0 the logit itself."""
    logits = torch.tensor([[-500.0]])
    label, masks = torch.tensor([0]), torch.ones(1, 1)
    assert focal_label_cost(logits, label).item() == pytest.approx(-0.25 * math.log(1e-12))
    assert focal_mask_cost(logits, masks, eps=1e-6).item() == pytest.approx(-0.25 * math.log(1e-6))
    assert focal_mask_cost(logits, masks, eps=0.0).item() == pytest.approx(0.25 * 500)


def test_nan_is_not_hidden():
    logits, masks = example()
    logits[0, 2, 3] = float('nan')
    for cost in MASK_COSTS.values():
        value = cost(logits, masks)
        assert torch.isnan(value[0, 2]).all()
        assert torch.isfinite(value[1:]).all()
    for cost in (classification_cost, focal_label_cost):
        assert torch.isnan(cost(torch.full((1, 2), float('nan')), torch.tensor([0]))).all()


# Gradient, dtype and autocast


@each_mask_cost
def test_gradcheck_of_masks(cost):
    logits, masks = example((2,), 3, 2, 5)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: cost(x, masks), logits)
    assert torch.autograd.gradcheck(lambda x: cost(x, masks, some_valid(5)), logits)


def test_gradcheck_of_labels_and_boxes():
    logits, labels = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True), torch.tensor([1, 3])
    assert torch.autograd.gradcheck(lambda x: classification_cost(x, labels), logits)
    assert torch.autograd.gradcheck(lambda x: focal_label_cost(x, labels), logits)
    boxes = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    truth = torch.rand(2, 4, dtype=torch.float64, requires_grad=True)
    for box_format in ('xyxy', 'xywh'):
        assert torch.autograd.gradcheck(lambda x, y, f=box_format: box_l1_cost(x, y, (2, 3), f), (boxes, truth))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_is_computed_in_float32(dtype):
    logits, masks = example(dtype=dtype)
    labels, valid = torch.tensor([0, 3]), some_valid()
    calls = [
        *(lambda x, cost=cost: cost(x, masks, valid) for name, cost in MASK_COSTS.items() if 'dice' not in name),
        lambda x: dice_mask_cost(x, masks, valid),
        lambda x: classification_cost(x, labels),
        lambda x: focal_label_cost(x, labels),
        lambda x: box_l1_cost(x[..., :4], x[0, ..., :4]),
    ]
    for call in calls:
        expected = call(logits.float())
        with torch.autocast('cpu', dtype=torch.bfloat16):
            value = call(logits)
        assert value.dtype == torch.float32
        assert torch.equal(value, expected)


def test_no_tensor_of_pairs_and_points_is_made():
    """Of 30 queries, 20 objects and 5000 points, pairs x points would be 12 MB; the largest result is 1.2 MB."""
    logits, masks = example((2,), 30, 20, 5000, dtype=torch.float32)
    for cost in MASK_COSTS.values():
        with torch.profiler.profile(profile_memory=True, record_shapes=True) as profile:
            cost(logits, masks, some_valid(5000))
        assert max(event.self_cpu_memory_usage for event in profile.events()) <= 1.3e6


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@each_mask_cost
def test_cuda_equals_cpu(cost):
    logits, masks = example(dtype=torch.float32)
    expected = cost(logits, masks, some_valid())
    inputs = logits.cuda(), masks.cuda(), some_valid().cuda()
    torch.cuda.set_sync_debug_mode('error')
    try:
        value = cost(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    torch.testing.assert_close(value.cpu(), expected)
