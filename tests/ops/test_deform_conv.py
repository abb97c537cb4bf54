"""Deformable convolution: against samples taken one by one, and against mmcv's kernels."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack, deform_conv2d, modulated_deform_conv2d

from mmplugins.ops import deform_conv as plain_deform_conv
from tests.ops.plain import (
    assert_same_as_compiled,
    needs_compiled,
    outputs_and_gradients,
    random,
)

pytestmark = pytest.mark.usefixtures('plain')
# stride, padding, dilation, groups, offset groups
SETTINGS = [(1, 1, 1, 1, 1), (2, 2, 2, 2, 4), (1, 0, 1, 4, 2), ((2, 1), (1, 2), (1, 2), 1, 1)]


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def sampled(image, y, x):
    """Value of a map (H, W) at a point, zeros outside; keeps the gradients of all three."""
    top, left, value = math.floor(y), math.floor(x), 0.0
    for row, fy in ((top, top + 1 - y), (top + 1, y - top)):
        for column, fx in ((left, left + 1 - x), (left + 1, x - left)):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                value = value + fy * fx * image[row, column]
    return value + 0 * y


def convolved(image, offset, mask, weight, stride, padding, dilation, groups, offset_groups):
    """Deformable convolution, sample by sample: the columns, then a 1x1 convolution of them."""
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    kernel, (out_y, out_x), channels = weight.shape[2:], offset.shape[2:], image.shape[1]
    columns = []
    for b in range(len(image)):
        for c in range(channels):
            group = c // (channels // offset_groups)
            for k in range(kernel[0] * kernel[1]):
                place = group * kernel[0] * kernel[1] + k
                for p in range(out_y):
                    for q in range(out_x):
                        y = p * stride[0] - padding[0] + k // kernel[1] * dilation[0] + offset[b, 2 * place, p, q]
                        x = q * stride[1] - padding[1] + k % kernel[1] * dilation[1] + offset[b, 2 * place + 1, p, q]
                        columns.append(sampled(image[b, c], y, x) * mask[b, place, p, q])
    columns = torch.stack(columns).view(len(image), channels * kernel[0] * kernel[1], out_y, out_x)
    return F.conv2d(columns, weight.flatten(1)[..., None, None], groups=groups)


def inputs(stride, padding, dilation, groups, offset_groups, size=(5, 6), channels=4, images=2, dtype=torch.float64):
    stride, padding, dilation = pair(stride), pair(padding), pair(dilation)
    out = [(size[i] + 2 * padding[i] - dilation[i] * (2 - i) - 1) // stride[i] + 1 for i in range(2)]  # kernel 3 x 2
    return (
        random(images, channels, *size, dtype=dtype),
        random(images, offset_groups * 12, *out, seed=1, dtype=dtype) * 1.5,
        random(images, offset_groups * 6, *out, seed=2, dtype=dtype),
        random(8, channels // groups, 3, 2, seed=3, dtype=dtype),
        random(8, seed=4, dtype=dtype),
    )


@pytest.mark.parametrize('settings', SETTINGS)
def test_deform_conv(settings):
    image, offset, mask, weight, _ = inputs(*settings)

    def reference(image, offset, weight):
        return convolved(image, offset, torch.ones_like(mask), weight, *settings)

    expected = outputs_and_gradients(reference, image, offset, weight)
    actual = outputs_and_gradients(lambda *args: deform_conv2d(*args, *settings), image, offset, weight)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize('settings', SETTINGS)
def test_modulated_deform_conv(settings):
    arguments = inputs(*settings)

    def reference(image, offset, mask, weight, bias):
        return convolved(image, offset, mask, weight, *settings) + bias[:, None, None]

    expected = outputs_and_gradients(reference, *arguments)
    actual = outputs_and_gradients(lambda *args: modulated_deform_conv2d(*args, *settings), *arguments)
    torch.testing.assert_close(actual, expected)


def test_without_bias_and_block_by_block(monkeypatch):
    settings = SETTINGS[1]
    *arguments, bias = inputs(*settings)
    expected = modulated_deform_conv2d(*arguments, bias, *settings) - bias[:, None, None]

    def function(*args):
        return modulated_deform_conv2d(*args, None, *settings)

    values = outputs_and_gradients(function, *arguments)
    torch.testing.assert_close(values[0], expected)
    monkeypatch.setattr(plain_deform_conv, '_CPU_COLUMNS', 100)
    torch.testing.assert_close(outputs_and_gradients(function, *arguments), values)


@pytest.mark.parametrize('layer', [DeformConv2dPack, ModulatedDeformConv2dPack])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_offsets_of_zero_are_a_plain_convolution(layer, memory_format):
    conv = layer(4, 6, 3, padding=1, bias=False).to(memory_format=memory_format)
    image = random(2, 4, 7, 5).float().to(memory_format=memory_format).requires_grad_()
    scale = 1 if layer is DeformConv2dPack else 0.5  # the mask is a sigmoid of 0
    values, expected = conv(image), F.conv2d(image, conv.weight, padding=1) * scale
    torch.testing.assert_close(values, expected)
    weight = random(*values.shape, seed=1).float()
    leaves = [image, conv.weight]
    torch.testing.assert_close(
        torch.autograd.grad((values * weight).sum(), leaves), torch.autograd.grad((expected * weight).sum(), leaves)
    )


def test_autocast_changes_nothing():
    image, offset, mask, weight, bias = (each.float() for each in inputs(*SETTINGS[0]))

    def function(*args):
        with torch.autocast('cpu', torch.bfloat16):
            output = modulated_deform_conv2d(*args, *SETTINGS[0])
            torch.autograd.grad(output.sum(), args, retain_graph=True)  # the backward pass, under it too
            return output

    def plainly(*args):
        return modulated_deform_conv2d(*args, *SETTINGS[0])

    arguments = image, offset, mask, weight, bias
    expected = outputs_and_gradients(plainly, *arguments)
    torch.testing.assert_close(outputs_and_gradients(function, *arguments), expected, rtol=0, atol=0)


@needs_compiled
@pytest.mark.parametrize('settings', SETTINGS)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_same_as_compiled(monkeypatch, settings, dtype, tolerance):
    monkeypatch.undo()
    image, offset, mask, weight, bias = inputs(*settings, size=(20, 31), channels=16, dtype=dtype)
    weight = weight.contiguous()
    assert_same_as_compiled(lambda *args: deform_conv2d(*args, *settings), image, offset, weight, tolerance=tolerance)
    assert_same_as_compiled(
        lambda *args: modulated_deform_conv2d(*args, *settings), image, offset, mask, weight, bias, tolerance=tolerance
    )
