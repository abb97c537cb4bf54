"""RoIAlign and RoIPool: against loops over bins and pixels, and against mmcv's kernels."""

import math

import pytest
import torch
from mmcv.ops import roi_align, roi_pool

from mmplugins.ops import roi_align as plain_roi_align
from mmplugins.ops import rows, vision
from tests.ops.plain import (
    assert_same_as_compiled,
    constant,
    needs_compiled,
    outputs_and_gradients,
    random,
    random_boxes,
)

pytestmark = pytest.mark.usefixtures('plain')


def bilinear(image, y, x):
    """Value of a map (C, H, W) at a point, by mmcv's rule; keeps gradients."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image[:, 0, 0] * 0
    y, x = (min(max(value, 0), size - 1) for value, size in ((y, height), (x, width)))
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    upper = (1 - fx) * image[:, top, left] + fx * image[:, top, right]
    lower = (1 - fx) * image[:, bottom, left] + fx * image[:, bottom, right]
    return (1 - fy) * upper + fy * lower


def align(maps, rois, bins, scale, ratio, mode, aligned):
    """RoIAlign, sample by sample."""
    shift = 0.5 if aligned else 0.0
    pooled = []
    for image, *box in rois.tolist():
        x1, y1, x2, y2 = (value * scale - shift for value in box)
        size = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1), max(x2 - x1, 1))
        steps = size[0] / bins[0], size[1] / bins[1]
        counts = (ratio, ratio) if ratio else (math.ceil(steps[0]), math.ceil(steps[1]))
        for p in range(bins[0]):
            for q in range(bins[1]):
                samples = [
                    bilinear(
                        maps[int(image)],
                        y1 + (p + (i + 0.5) / counts[0]) * steps[0],
                        x1 + (q + (j + 0.5) / counts[1]) * steps[1],
                    )
                    for i in range(counts[0])
                    for j in range(counts[1])
                ]
                samples = torch.stack(samples)
                pooled.append(samples.mean(0) if mode == 'avg' else samples.amax(0))
    return torch.stack(pooled).view(len(rois), *bins, -1).permute(0, 3, 1, 2)


def rois_of(count, size, seed=0, largest=0.6):
    image = torch.arange(count)[:, None] % 2
    return constant(torch.cat([image, random_boxes(count, size, seed, largest)], 1).double())


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align(ratio, mode, aligned):
    arguments = random(2, 3, 9, 11), rois_of(5, 40), (2, 3), 0.25, ratio, mode, aligned
    expected = outputs_and_gradients(align, *arguments)
    torch.testing.assert_close(outputs_and_gradients(roi_align, *arguments), expected)


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align_block_by_block(monkeypatch, mode):
    arguments = random(2, 3, 9, 11), rois_of(7, 40, largest=1.0), (2, 3), 0.25, 0, mode, True
    expected = outputs_and_gradients(roi_align, *arguments)
    for terms in (1, 100, 1000):
        monkeypatch.setattr(rows, '_CPU_TERMS', terms)
        torch.testing.assert_close(outputs_and_gradients(roi_align, *arguments), expected)


def test_roi_align_of_nothing_and_of_empty_boxes():
    maps = random(1, 2, 4, 4)
    assert roi_align(maps, torch.zeros(0, 5).double(), 3, 1.0).shape == (0, 2, 3, 3)
    point = torch.tensor([[0.0, 1, 1, 1, 1]]).double()
    assert torch.equal(roi_align(maps, point, 3, 1.0), torch.zeros(1, 2, 3, 3).double())
    assert torch.equal(roi_align(maps, point, 3, 1.0, 0, 'max'), torch.full((1, 2, 3, 3), -10000.0).double())


def test_roi_align_says_what_is_wrong_with_a_box():
    boxes = torch.tensor([[0.0, 1, 1, 3, 3], [0, 3, 1, 1, 3]])
    with pytest.raises(ValueError, match=r'expects x1 <= x2 and y1 <= y2, but RoI 1 is \[3.0, 1.0, 1.0, 3.0\]'):
        roi_align(torch.zeros(1, 1, 4, 4), boxes, 2)


def test_roi_align_in_half_precision():
    maps, rois = random(2, 3, 9, 11, dtype=torch.float16), rois_of(5, 40).half()
    values = roi_align(maps, rois, 2, 0.25)
    assert values.dtype == torch.float16
    expected = roi_align(maps.float(), rois.float(), 2, 0.25)
    torch.testing.assert_close(values.float(), expected, atol=2e-3, rtol=1e-3)


def pool(maps, rois, bins, scale):
    """RoIPool, pixel by pixel."""
    height, width = maps.shape[2:]
    pooled = []
    for image, x1, y1, x2, y2 in rois.tolist():
        x1, y1, x2, y2 = x1 * scale, y1 * scale, (x2 + 1) * scale, (y2 + 1) * scale
        steps = (y2 - y1) / bins[0], (x2 - x1) / bins[1]
        for p in range(bins[0]):
            for q in range(bins[1]):
                window = maps[
                    int(image),
                    :,
                    max(math.floor(p * steps[0] + y1), 0) : min(max(math.ceil((p + 1) * steps[0] + y1), 0), height),
                    max(math.floor(q * steps[1] + x1), 0) : min(max(math.ceil((q + 1) * steps[1] + x1), 0), width),
                ]
                pooled.append(window.amax((1, 2)) if window.numel() else maps[0, :, 0, 0] * 0)
    return torch.stack(pooled).view(len(rois), *bins, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize('terms', [1 << 18, 1 << 8, 1])
def test_roi_pool(monkeypatch, terms):
    monkeypatch.setattr(rows, '_CPU_TERMS', terms)
    arguments = random(2, 3, 9, 11), rois_of(9, 44, largest=1.2), (3, 2), 0.25
    expected = outputs_and_gradients(pool, *arguments)
    assert (expected[0] == 0).any()  # some bins are empty
    torch.testing.assert_close(outputs_and_gradients(roi_pool, *arguments), expected)


def test_roi_pool_takes_the_first_of_equal_pixels():
    maps = torch.zeros(1, 1, 3, 3, requires_grad=True)
    roi_pool(maps, torch.tensor([[0.0, 1, 1, 2, 2]]), 1).sum().backward()
    assert maps.grad.nonzero().tolist() == [[0, 0, 1, 1]]


def test_roi_pool_of_a_box_that_ends_before_it_begins():
    maps = random(1, 1, 3, 3).requires_grad_()
    values = roi_pool(maps, torch.tensor([[0.0, 2, 2, 0, 0]]).double(), 2)
    assert not values.any()
    assert not torch.autograd.grad(values.sum(), maps)[0].any()


@needs_compiled
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align_same_as_compiled(monkeypatch, mode, ratio, aligned):
    monkeypatch.undo()
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        if mode == 'max' and dtype == torch.float32:
            continue  # samples that differ by rounding alone change places
        rois = constant(rois_of(100, 400).to(dtype))
        arguments = random(2, 16, 50, 76, dtype=dtype), rois, 7, 0.25, ratio, mode, aligned
        assert_same_as_compiled(roi_align, *arguments, tolerance=tolerance)


@pytest.mark.skipif(vision._operator('roi_align') is None, reason='no torchvision here')
def test_roi_align_of_torchvision(monkeypatch):
    arguments = random(2, 3, 9, 11), rois_of(5, 40), (2, 3), 0.25, 0, 'avg', True
    expected = outputs_and_gradients(roi_align, *arguments)
    monkeypatch.setattr(plain_roi_align, 'torchvision_operator', lambda name, device: vision._operator(name))
    monkeypatch.setattr(plain_roi_align, '_grids', None)
    torch.testing.assert_close(outputs_and_gradients(roi_align, *arguments), expected)
