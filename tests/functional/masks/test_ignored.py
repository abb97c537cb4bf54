import pytest
import torch

from mmplugins.functional.masks.ignored import find_ignored


def scene():
    """8 x 8 pixels for 4 x 4 logits; ignored: the left half but its first column of logits, and a pixel."""
    valid = torch.ones(8, 8, dtype=torch.bool)
    valid[:, 2:4] = False
    valid[5, 7] = False
    return valid


def test_an_ignored_logit_covers_only_ignored_pixels():
    ignored = find_ignored([scene(), None], 2, (4, 4))
    assert ignored[1] is None
    assert torch.equal(ignored[0].pixels, ~scene())
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[:, 1] = True
    assert torch.equal(ignored[0].logits, expected)


def test_a_point_is_valid_if_nothing_around_it_is_ignored():
    """Logit 1 lies at x = 3/8 and reaches from 1/8 to 5/8; the pixel at (15/16, 11/16) reaches a pixel on each side."""
    (ignored,) = find_ignored([scene()], 1, (4, 4))
    points = {(0.1, 0.2): True, (0.13, 0.2): False, (0.37, 0.2): False, (0.62, 0.2): False, (0.63, 0.2): True}
    points |= {(0.94, 0.69): False, (0.82, 0.69): False, (0.81, 0.69): True, (0.94, 0.55): True, (0.94, 0.6): False}
    found = ignored.valid_points(torch.tensor(list(points)))
    assert found.tolist() == list(points.values())
    assert ignored.valid_points(torch.tensor(list(points)).view(2, 5, 2)).shape == (2, 5)


def test_pixels_upsampled_from_an_ignored_logit_are_upsampled():
    (ignored,) = find_ignored([scene()], 1, (4, 4))
    row = [False, True, True, True, True, False, False, False]
    upsampled = ignored.upsampled()
    assert upsampled[0].tolist() == row
    assert upsampled[5].tolist() == [*row[:7], True]


def test_clearing_removes_even_nan():
    (ignored,) = find_ignored([scene()], 1, (4, 4))
    maps = ignored.clear(torch.full((2, 4, 4), float('nan')))
    assert torch.equal(maps.isnan(), ~ignored.logits.expand(2, -1, -1))


def test_where_all_pixels_are_valid_nothing_is_ignored():
    assert find_ignored(None, 3, (4, 4)) == [None] * 3
    assert find_ignored([torch.ones(8, 8, dtype=torch.bool)], 1, (4, 4)) == [None]


@pytest.mark.parametrize('size', [(3, 5), (8, 8), (16, 11)])
def test_sizes_that_do_not_divide(size):
    valid = torch.ones(8, 8, dtype=torch.bool)
    valid[2:7, 1:7] = False
    (ignored,) = find_ignored([valid], 1, size)
    assert ignored.logits.shape == size
    assert ignored.upsampled().shape == (8, 8)
    (none,) = find_ignored([torch.zeros(8, 8, dtype=torch.bool)], 1, size)
    assert none.logits.all()
    assert none.upsampled().all()
    assert not none.valid_points(torch.rand(50, 2)).any()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_equals_cpu():
    points = torch.rand(500, 2)
    (expected,), (ignored,) = (find_ignored([valid], 1, (4, 4)) for valid in (scene(), scene().cuda()))
    assert torch.equal(ignored.valid_points(points.cuda()).cpu(), expected.valid_points(points))
    assert torch.equal(ignored.upsampled().cpu(), expected.upsampled())
