import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmplugins.functional.sets.boxes import aligned_overlap, cxcywh_to_xyxy, pairwise_overlap, xyxy_to_cxcywh
from mmplugins.hosts import problem_with

MODES = ('iou', 'iof', 'giou')
each_mode = pytest.mark.parametrize('mode', MODES)


def example(*shape, seed=0, dtype=torch.float32):
    """Boxes x1, y1, x2, y2 with positive sides, (*shape, 4)."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(*shape, 2, generator=generator, dtype=torch.float64)
    side = 0.05 + torch.rand(*shape, 2, generator=generator, dtype=torch.float64)
    return torch.cat((start, start + side), dim=-1).to(dtype)


def definition(first, second, mode):
    """Overlap of two boxes in Python numbers, as the papers define it."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = first, second
    inter = max(min(x2, u2) - max(x1, u1), 0) * max(min(y2, v2) - max(y1, v1), 0)
    area = (x2 - x1) * (y2 - y1)
    if mode == 'iof':
        return inter / area
    union = area + (u2 - u1) * (v2 - v1) - inter
    enclosure = (max(x2, u2) - min(x1, u1)) * (max(y2, v2) - min(y1, v1))
    return inter / union - (0 if mode == 'iou' else (enclosure - union) / enclosure)


# Errors


@pytest.mark.parametrize('boxes', [torch.zeros(3, 5), torch.zeros(4, 3), torch.tensor(1.0)])
def test_other_than_four_coordinates_raises(boxes):
    for function in (cxcywh_to_xyxy, xyxy_to_cxcywh, lambda x: pairwise_overlap(x, x), lambda x: aligned_overlap(x, x)):
        with pytest.raises(ValueError, match=r'expected boxes \(\.\.\., 4\), got .*; give four coordinates a box'):
            function(boxes)


def test_unknown_mode_raises():
    message = r"mode must be one of \('iou', 'iof', 'giou'\), got 'diou'; DETR's cost and loss use 'giou'"
    with pytest.raises(ValueError, match=message):
        pairwise_overlap(example(2), example(3), 'diou')
    with pytest.raises(ValueError, match=message):
        aligned_overlap(example(2), example(2), 'diou')


# Shapes


@each_mode
def test_shapes(mode):
    assert pairwise_overlap(example(5), example(3), mode).shape == (5, 3)
    assert pairwise_overlap(example(2, 7, 5), example(2, 7, 3), mode).shape == (2, 7, 5, 3)
    assert pairwise_overlap(example(6, 5), example(3), mode).shape == (6, 5, 3)
    assert pairwise_overlap(example(6, 5), example(0), mode).shape == (6, 5, 0)
    assert pairwise_overlap(example(0), example(3), mode).shape == (0, 3)
    assert aligned_overlap(example(2, 5), example(2, 5), mode).shape == (2, 5)
    assert aligned_overlap(example(0), example(0), mode).shape == (0,)


# Values


def test_conversions_by_hand():
    """A box of 4 by 2 around (3, 5) reaches from (1, 4) to (5, 6)."""
    assert cxcywh_to_xyxy(torch.tensor([3.0, 5, 4, 2])).tolist() == [1, 4, 5, 6]
    assert xyxy_to_cxcywh(torch.tensor([[1.0, 4, 5, 6]])).tolist() == [[3, 5, 4, 2]]


def test_conversions_undo_one_another():
    boxes = example(3, 8)
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)


@each_mode
def test_overlap_is_its_definition(mode):
    ours, theirs = example(2, 9), example(2, 6, seed=1)
    expected = [
        [[definition(x, y, mode) for y in b.tolist()] for x in a.tolist()] for a, b in zip(ours, theirs, strict=True)
    ]
    torch.testing.assert_close(pairwise_overlap(ours, theirs, mode), torch.tensor(expected))


def test_overlap_by_hand():
    """Squares of 2, one moved by (1, 1): I = 1, U = 7, enclosed by 9. Unit squares 3 apart: I = 0, U = 2 of 1 x 4."""
    first = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]])
    second = torch.tensor([[1.0, 1, 3, 3], [3, 0, 4, 1]])
    assert aligned_overlap(first, second, 'iou').tolist() == pytest.approx([1 / 7, 0])
    assert aligned_overlap(first, second, 'iof').tolist() == pytest.approx([1 / 4, 0])
    assert aligned_overlap(first, second, 'giou').tolist() == pytest.approx([1 / 7 - 2 / 9, -1 / 2])


@pytest.mark.skipif(bool(problem_with('mmdet')), reason=str(problem_with('mmdet')))
@each_mode
def test_equals_mmdet(mode):
    from mmdet.structures.bbox import bbox_overlaps

    ours, theirs = 100 * example(2, 30), 100 * example(2, 20, seed=1)
    torch.testing.assert_close(pairwise_overlap(ours, theirs, mode), bbox_overlaps(ours, theirs, mode))


# Identities


@each_mode
def test_pairwise_is_aligned(mode):
    ours, theirs = example(2, 5), example(2, 7, seed=1)
    pairs = aligned_overlap(ours[:, :, None].expand(2, 5, 7, 4), theirs[:, None].expand(2, 5, 7, 4), mode)
    assert torch.equal(pairwise_overlap(ours, theirs, mode), pairs)
    assert torch.equal(pairwise_overlap(ours, theirs[0], mode)[0], pairs[0])


@each_mode
def test_a_box_overlaps_itself(mode):
    boxes = example(20)
    torch.testing.assert_close(aligned_overlap(boxes, boxes, mode), torch.ones(20))


@pytest.mark.parametrize('mode', ['iou', 'giou'])
def test_symmetric_and_free_of_scale(mode):
    ours, theirs = example(5), example(6, seed=1)
    overlap = pairwise_overlap(ours, theirs, mode)
    torch.testing.assert_close(overlap, pairwise_overlap(theirs, ours, mode).T)
    for scale in (1e-3, 1e3):  # a box of a 1000th of the image is one pixel
        torch.testing.assert_close(overlap, pairwise_overlap(scale * ours, scale * theirs, mode))


# Boxes without an area


coordinate = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-30, 1e-7]), st.floats(-1e4, 1e4, width=32))
box = st.lists(coordinate, min_size=4, max_size=4)


@settings(max_examples=100, deadline=None)
@given(first=box, second=box, mode=st.sampled_from(MODES))
def test_always_finite(first, second, mode):
    """Whatever the order of the coordinates, values stay in their range and gradients finite."""
    first = torch.tensor([first], requires_grad=True)
    second = torch.tensor([second, second], requires_grad=True)
    overlap = pairwise_overlap(first, second, mode)
    overlap.sum().backward()
    assert (overlap >= (-1 if mode == 'giou' else 0) - 1e-5).all()
    assert (overlap <= 1 + 1e-5).all()
    assert torch.isfinite(first.grad).all()
    assert torch.isfinite(second.grad).all()


def test_boxes_without_area_by_hand():
    """Against the unit square: a point inside has I = 0, U = 1 = enclosure; a line of length 3, enclosure 3."""
    square = torch.tensor([0.0, 0, 1, 1])
    point, line = torch.tensor([0.5, 0.5, 0.5, 0.5]), torch.tensor([0.0, 0, 3, 0])
    assert aligned_overlap(point, square).item() == 0
    assert aligned_overlap(line, square).item() == pytest.approx(1 / 3 - 1)
    assert aligned_overlap(point, point).item() == 0
    assert aligned_overlap(point, point, 'iou').item() == 0
    assert aligned_overlap(point, square, 'iof').item() == 0


def test_inside_out_is_worse_than_empty():
    """Along each axis: sides 0 and 1, signed intersection 0.2 - 0.8, so the enclosure's side is 1.6."""
    square = torch.tensor([0.0, 0, 1, 1])
    inside_out = torch.tensor([0.8, 0.8, 0.2, 0.2], requires_grad=True)
    overlap = aligned_overlap(inside_out, square)
    overlap.backward()
    assert overlap.item() == pytest.approx(1 / 1.6**2 - 1)
    assert aligned_overlap(inside_out, square, 'iou').item() == 0  # mmdet's area would be 0.36
    assert (inside_out.grad * torch.tensor([-1, -1, 1, 1]) > 0).all()  # to the left and up, to the right and down


def test_a_small_box_keeps_its_overlap():
    """One pixel of a 4000 x 4000 image, as fractions: its area of 6e-8 is far below mmdet's 1e-6."""
    pixel = torch.tensor([[0.0, 0, 1 / 4000, 1 / 4000]])
    torch.testing.assert_close(pairwise_overlap(pixel, pixel), torch.ones(1, 1))


@each_mode
def test_nan_is_not_hidden(mode):
    for axis in range(4):
        boxes = example(1)
        boxes[0, axis] = float('nan')
        assert torch.isnan(pairwise_overlap(boxes, example(2), mode)).all()
        assert torch.isnan(aligned_overlap(example(2), boxes, mode)).all() or mode == 'iof'


# Gradient and dtype


@each_mode
def test_gradcheck(mode):
    ours, theirs = (example(4, seed=seed, dtype=torch.float64).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda x, y: pairwise_overlap(x, y, mode), (ours, theirs))
    assert torch.autograd.gradcheck(lambda x, y: aligned_overlap(x, y, mode), (ours, theirs))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_is_computed_in_float32(dtype):
    ours, theirs = ((100 * example(5, seed=seed)).to(dtype) for seed in (0, 1))
    expected = pairwise_overlap(ours.float(), theirs.float())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        overlap = pairwise_overlap(ours, theirs)
    assert overlap.dtype == torch.float32
    assert torch.equal(overlap, expected)


def test_input_is_left_alone():
    ours, theirs = example(5), example(3, seed=1)
    before = ours.clone(), theirs.clone()
    pairwise_overlap(ours, theirs)
    assert torch.equal(ours, before[0])
    assert torch.equal(theirs, before[1])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@each_mode
def test_cuda_equals_cpu(mode):
    ours, theirs = example(4, 30), example(7, seed=1)
    overlap = pairwise_overlap(ours.cuda(), theirs.cuda(), mode)
    torch.testing.assert_close(overlap.cpu(), pairwise_overlap(ours, theirs, mode))
