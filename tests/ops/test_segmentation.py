"""Operators of segmentors: PSA masks, CARAFE, convolution at the pixels of a mask."""

import pytest
import torch
from mmcv.ops import MaskedConv2d, carafe
from mmcv.ops.carafe import carafe_naive
from mmcv.ops.psa_mask import psa_mask

from tests.ops.plain import (
    assert_same_as_compiled,
    needs_compiled,
    outputs_and_gradients,
    random,
)

pytestmark = pytest.mark.usefixtures('plain')


def laid_out(masks, kind, size):
    """PSA masks, pair by pair: kind 0 at [other, pixel], 1 at [pixel, other]."""
    count, _, height, width = masks.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    out = torch.zeros(count, len(pixels), len(pixels), dtype=masks.dtype)
    for pixel, (y, x) in enumerate(pixels):
        for other, (v, u) in enumerate(pixels):
            row, column = v - y + (size[0] - 1) // 2, u - x + (size[1] - 1) // 2
            if 0 <= row < size[0] and 0 <= column < size[1]:
                place = (other, pixel) if kind == 0 else (pixel, other)
                out[(slice(None), *place)] = masks[:, row * size[1] + column, y, x]
    return out.view(count, len(pixels), height, width)


@pytest.mark.parametrize('kind', [0, 1])
@pytest.mark.parametrize('size', [(3, 3), (7, 5), (1, 9)])
def test_psa_mask(kind, size):
    arguments = random(2, size[0] * size[1], 4, 3), kind, size
    expected = outputs_and_gradients(laid_out, *arguments)
    torch.testing.assert_close(outputs_and_gradients(psa_mask, *arguments), expected)


@needs_compiled
@pytest.mark.parametrize('kind', [0, 1])
def test_psa_mask_same_as_compiled(monkeypatch, kind):
    monkeypatch.undo()
    assert_same_as_compiled(psa_mask, random(2, 63, 6, 8, dtype=torch.float32), kind, (7, 9), tolerance=0.0)


def reassembled(features, masks, kernel, groups, scale):
    """CARAFE, pixel by pixel."""
    count, channels, height, width = features.shape
    rows = []
    for y in range(height * scale):
        for x in range(width * scale):
            value = features[..., 0, 0] * 0
            for i in range(kernel):
                for j in range(kernel):
                    v, u = y // scale + i - kernel // 2, x // scale + j - kernel // 2
                    if 0 <= v < height and 0 <= u < width:
                        weight = masks[:, i * kernel + j :: kernel**2, y, x]  # (N, G)
                        value = value + features[..., v, u] * weight.repeat_interleave(channels // groups, 1)
            rows.append(value)
    return torch.stack(rows, -1).view(count, channels, height * scale, width * scale)


@pytest.mark.parametrize(('kernel', 'groups', 'scale'), [(3, 1, 2), (5, 2, 3), (1, 4, 1)])
def test_carafe(kernel, groups, scale):
    arguments = random(2, 4, 3, 5), random(2, groups * kernel**2, 3 * scale, 5 * scale, seed=1), kernel, groups, scale
    expected = outputs_and_gradients(reassembled, *arguments)
    torch.testing.assert_close(outputs_and_gradients(carafe, *arguments), expected)
    torch.testing.assert_close(carafe_naive(*arguments), expected[0])


def test_masked_conv():
    conv = MaskedConv2d(3, 4, 3, padding=1)
    image, mask = random(1, 3, 6, 7).float(), torch.rand(1, 6, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    torch.testing.assert_close(conv(image, mask.float()).detach(), conv(image).detach() * mask)
    assert not conv(image, torch.zeros(1, 6, 7)).any()
