"""Masks resized where they are needed have the bits of those resized as a whole."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmplugins.functional.masks.resized import ResizedMasks
from tests.precisions import FLOAT16

LENGTHS = st.one_of(st.integers(1, 40), st.integers(100, 200))
SIZES = st.tuples(LENGTHS, LENGTHS)


def reference(logits, steps):
    x = logits[:, None]
    for size, (height, width) in steps:
        x = F.interpolate(x, size, mode='bilinear', align_corners=False)[..., :height, :width]
    return x[:, 0]


def resized(logits_size, *steps, seed=0, dtype=torch.float32):
    logits = 5 * torch.randn(3, *logits_size, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return ResizedMasks(logits, steps), reference(logits, steps)


@settings(max_examples=150, deadline=None)
@given(size=SIZES, full=SIZES, cut=SIZES, original=SIZES, corners=st.tuples(*[st.integers(0, 199)] * 4))
def test_every_window_has_the_bits_of_the_whole(size, full, cut, original, corners):
    kept = tuple(min(pair) for pair in zip(full, cut, strict=True))
    masks, expected = resized(size, (full, kept), (original, original))
    window = []
    for length, ends in zip(masks.size, (corners[:2], corners[2:]), strict=True):
        start, stop = sorted(end % length for end in ends)
        window.append(slice(start, stop + 1))
    assert torch.equal(masks.window(1, tuple(window)), expected[1][tuple(window)])
    assert torch.equal(masks.full(), expected)
    assert torch.equal(masks.one(2), expected[2])
    torch.testing.assert_close(masks.rows(window[0]), expected[:, window[0]], rtol=1e-3, atol=1e-3)


@settings(max_examples=100, deadline=None)
@given(size=SIZES, full=SIZES, original=SIZES, seed=st.integers(0, 9))
def test_bounds_hold_and_regions_reach_what_they_must(size, full, original, seed):
    """All pixels above a level lie in the region of the tiles whose upper bound is above it; likewise below."""
    masks, expected = resized(size, (full, full), (original, original), seed=seed)
    upper, lower = masks.bounds(0)
    for level in (-4, 0, 4):
        for tiles, pixels in ((upper > level - 1e-3, expected[0] > level), (lower < level + 1e-3, expected[0] < level)):
            outside = pixels.clone()
            outside[masks.region(tiles)] = False
            assert not outside.any()


def test_a_region_is_as_small_as_its_tiles_and_may_be_empty():
    masks, _ = resized((32, 32), ((128, 128), (128, 128)))
    tiles = torch.zeros_like(masks.bounds(0)[0], dtype=torch.bool)
    assert masks.region(tiles) == (slice(0, 0), slice(0, 0))
    assert masks.window(0, masks.region(tiles)).shape == (0, 0)
    tiles[2, 3] = True  # logits 8 to 11 and 12 to 15; the pixel 34 is the first after the logit 8's centre
    rows, columns = masks.region(tiles)
    assert (rows, columns) == (slice(34, 50), slice(50, 66))


@pytest.mark.parametrize('dtype', [torch.bfloat16, FLOAT16, torch.float64])
def test_other_precisions(dtype):
    masks, expected = resized((9, 13), ((36, 52), (35, 50)), ((70, 49), (70, 49)), dtype=dtype)
    window = slice(3, 20), slice(10, 30)
    assert torch.equal(masks.window(0, window), expected[0][window])
    assert masks.rows(slice(0, 5)).dtype == torch.promote_types(dtype, torch.float32)


def test_under_autocast_a_resizing_is_not_halved():
    masks, _ = resized((9, 13), ((36, 52), (36, 52)), dtype=torch.bfloat16)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(masks.window(1, (slice(2, 9), slice(0, 4))), masks.full()[1, 2:9, :4])


def test_finite_sees_the_chosen_queries_alone():
    masks, _ = resized((4, 4))
    masks.logits[1, 2, 3] = float('nan')
    masks.logits[2, 0, 0] = -float('inf')
    assert [masks.finite(torch.tensor([query])) for query in range(3)] == [True, False, False]
    assert masks.finite(torch.tensor([], dtype=torch.int64))
