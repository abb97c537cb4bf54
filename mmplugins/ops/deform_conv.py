"""Deformable convolution, plain and modulated, with mmcv's arguments.

Papers: Dai et al., ICCV 2017; Zhu et al., Deformable ConvNets v2, CVPR 2019. The samples and their gradients follow
mmcv's kernels (``ops/csrc/pytorch/cpu/deform_conv.cpp``, ``modulated_deform_conv.cpp``). Difference: float16 and
bfloat16 are computed in float32.

The samples of some output pixels at a time become columns, which a matrix product turns into outputs; the backward pass
samples again.

Letters: B images, C O channels of input and output, H W and Y X size of input and output, K pixels of the kernel, G
groups of channels that share offsets, E groups of the convolution, n output pixels of a block.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mmplugins.functional.device import full_precision

from .bilinear import Corners, corners, point_grads
from .rows import add_table_grad, sum_rows, sum_rows_weight_grad, terms_at_once
from .tables import add_to_map, table_of

_CPU_COLUMNS, _COLUMNS = 1 << 21, 1 << 26  # numbers of a block of columns


class _Conv(NamedTuple):
    """Each pair is along y and along x."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    offset_groups: int


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **settings: int
) -> None:
    """Convolves, as mmcv's operator of this name.

    Args:
        input: (B, C, H, W), floating.
        weight: (O, C / E, kH, kW).
        offset: (B, G * K * 2, Y, X), y and x of each sample relative to its place in a plain convolution, in pixels.
        output: (B, O, Y, X); written.
        columns: Not used.
        ones: Not used.
        **settings: kW, kH, dW, dH (stride), padW, padH, dilationW, dilationH, group, deformable_group; im2col_step is
            not used.
    """
    output.copy_(_forward(input, weight, offset, None, _settings(settings)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **settings: int,
) -> None:
    """Computes the gradients of ``deform_conv_forward`` by input and offset, as mmcv's operator of this name.

    Args:
        input: (B, C, H, W).
        offset: (B, G * K * 2, Y, X).
        grad_output: (B, O, Y, X).
        grad_input: (B, C, H, W), zeros; written.
        grad_offset: (B, G * K * 2, Y, X); written.
        weight: (O, C / E, kH, kW).
        columns: Not used.
        **settings: As for ``deform_conv_forward``.
    """
    _backward_samples(input, weight, offset, None, grad_output, grad_input, grad_offset, None, _settings(settings))


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float = 1.0,
    **settings: int,
) -> None:
    """Adds the gradient of ``deform_conv_forward`` by the weight, as mmcv's operator of this name.

    Args:
        input: (B, C, H, W).
        offset: (B, G * K * 2, Y, X).
        grad_output: (B, O, Y, X).
        grad_weight: (O, C / E, kH, kW), zeros; written.
        columns: Not used.
        ones: Not used.
        scale: Factor of the gradient.
        **settings: As for ``deform_conv_forward``.
    """
    grad = _weight_grad(input, grad_weight.shape, offset, None, grad_output, _settings(settings))
    grad_weight += (scale * grad).to(grad_weight.dtype)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **settings: int,
) -> None:
    """Convolves samples times a mask, as mmcv's operator of this name.

    Args:
        input: (B, C, H, W), floating.
        weight: (O, C / E, kernel_h, kernel_w).
        bias: (O,) if ``with_bias``.
        ones: Not used.
        offset: (B, G * K * 2, Y, X), as for ``deform_conv_forward``.
        mask: (B, G * K, Y, X), factor of each sample.
        output: (B, O, Y, X); written.
        columns: Not used.
        with_bias: Whether there is a bias.
        **settings: kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group,
            deformable_group.
    """
    values = _forward(input, weight, offset, mask, _modulated_settings(settings))
    output.copy_(values + full_precision(bias)[:, None, None] if with_bias else values)


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **settings: int,
) -> None:
    """Computes the gradients of ``modulated_deform_conv_forward``, as mmcv's operator of this name.

    Args:
        input: (B, C, H, W).
        weight: (O, C / E, kernel_h, kernel_w).
        bias: (O,) if ``with_bias``.
        ones: Not used.
        offset: (B, G * K * 2, Y, X).
        mask: (B, G * K, Y, X).
        columns: Not used.
        grad_input: Of the shape of ``input``, zeros; written, as are the other gradients.
        grad_weight: Of the shape of ``weight``.
        grad_bias: Of the shape of ``bias``.
        grad_offset: Of the shape of ``offset``.
        grad_mask: Of the shape of ``mask``.
        grad_output: (B, O, Y, X).
        with_bias: Whether there is a bias.
        **settings: As for ``modulated_deform_conv_forward``.
    """
    conv = _modulated_settings(settings)
    _backward_samples(input, weight, offset, mask, grad_output, grad_input, grad_offset, grad_mask, conv)
    grad_weight += _weight_grad(input, weight.shape, offset, mask, grad_output, conv).to(grad_weight.dtype)
    if with_bias:
        grad_bias += full_precision(grad_output).sum((0, 2, 3)).to(grad_bias.dtype)


def _settings(given: dict[str, int]) -> _Conv:
    pairs = [(given[f'{name}H'], given[f'{name}W']) for name in ('k', 'd', 'pad', 'dilation')]
    return _Conv(*pairs, given['group'], given['deformable_group'])


def _modulated_settings(given: dict[str, int]) -> _Conv:
    pairs = [(given[f'{name}_h'], given[f'{name}_w']) for name in ('kernel', 'stride', 'pad', 'dilation')]
    return _Conv(*pairs, given['group'], given['deformable_group'])


def _forward(input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, conv: _Conv) -> Tensor:
    output = full_precision(input).new_empty(input.shape[0], offset.shape[2] * offset.shape[3], weight.shape[0])
    kernel = _kernel(weight, conv)
    for block in _blocks(input, offset, mask, conv):
        output[block.image, block.pixels] = _product(block.columns(conv), kernel).transpose(0, 1).flatten(1)
    return output.transpose(1, 2).unflatten(2, offset.shape[2:])


def _backward_samples(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor | None,
    conv: _Conv,
) -> None:
    kernel = _kernel(weight, conv).transpose(1, 2)
    total = torch.zeros_like(table_of(input)).view(input.shape[0], -1, input.shape[1] // conv.offset_groups)
    groups, places = conv.offset_groups, conv.kernel[0] * conv.kernel[1]
    pixels = offset.shape[2] * offset.shape[3]
    by_offset = kernel.new_empty(input.shape[0], groups, places, 2, pixels)
    by_factor = kernel.new_empty(input.shape[0], groups, places, pixels)
    for block in _blocks(input, offset, mask, conv):
        grad = _product(_grouped(grad_output, block, conv), kernel)  # (E, n, K * C / E)
        terms = block.found.pixel
        grad = grad.unflatten(2, (terms.shape[1], -1)).permute(1, 2, 0, 3).reshape(-1, block.table.shape[1])
        index = terms.flatten(0, 2)  # (n * K * G, 4)
        add_table_grad(total[block.image], grad, index, block.weight.flatten(0, 2))
        dots = sum_rows_weight_grad(grad, block.table, index).view(terms.shape)
        by_mask, by_x, by_y = (each.permute(2, 1, 0) for each in point_grads(dots, block.found))  # (G, K, n)
        if mask is not None:
            factor = block.mask.permute(2, 1, 0)
            by_x, by_y = by_x * factor, by_y * factor
        by_factor[block.image, ..., block.pixels] = by_mask
        by_offset[block.image, ..., block.pixels] = torch.stack([by_y, by_x], 2)
    add_to_map(grad_input, total.view(-1, input.shape[1]))
    grad_offset.copy_(by_offset.view(offset.shape))
    if mask is not None:
        grad_mask.copy_(by_factor.view(mask.shape))


def _weight_grad(
    input: Tensor, shape: torch.Size, offset: Tensor, mask: Tensor | None, grad_output: Tensor, conv: _Conv
) -> Tensor:
    places = shape[2] * shape[3]
    total = full_precision(input).new_zeros(conv.groups, places * shape[1], shape[0] // conv.groups)
    for block in _blocks(input, offset, mask, conv):
        total.baddbmm_(block.columns(conv).transpose(1, 2), _grouped(grad_output, block, conv))
    return total.unflatten(1, (places, -1)).permute(0, 3, 2, 1).reshape(shape)


def _product(a: Tensor, b: Tensor) -> Tensor:
    # Into a tensor of its own: autocast, which would lower the precision, leaves such calls alone.
    return torch.bmm(a, b, out=a.new_empty(a.shape[0], a.shape[1], b.shape[2]))


def _kernel(weight: Tensor, conv: _Conv) -> Tensor:
    """Returns the weight as (E, K * C / E, O / E)."""
    weight = full_precision(weight).flatten(2).unflatten(0, (conv.groups, -1))  # (E, O / E, C / E, K)
    return weight.permute(0, 3, 2, 1).flatten(1, 2)


class _Block(NamedTuple):
    """The samples of some output pixels of an image.

    Attributes:
        image: Which image.
        pixels: Which output pixels, of Y * X.
        table: (H * W * G, C / G), the image's features.
        found: Corners of the samples, (n, K, G, ...), as rows of the table.
        weight: (n, K, G, 4), with the mask.
        mask: (n, K, G), or None.
    """

    image: int
    pixels: slice
    table: Tensor
    found: Corners
    weight: Tensor
    mask: Tensor | None

    def columns(self, conv: _Conv) -> Tensor:
        """Samples; returns (E, n, K * C / E)."""
        sums = sum_rows(self.table, self.found.pixel.flatten(0, 2), self.weight.flatten(0, 2))
        sums = sums.view(*self.weight.shape[:2], conv.groups, -1)  # (n, K, E, C / E)
        return sums.permute(2, 0, 1, 3).flatten(2)


def _blocks(input: Tensor, offset: Tensor, mask: Tensor | None, conv: _Conv) -> Iterator[_Block]:
    images, channels, height, width = input.shape
    groups, places = conv.offset_groups, conv.kernel[0] * conv.kernel[1]
    tables = table_of(input).view(images, height * width * groups, channels // groups)
    offsets = offset.flatten(2).unflatten(1, (groups, places, 2)).permute(0, 4, 2, 1, 3)  # (B, Y * X, K, G, 2)
    masks = None if mask is None else mask.flatten(2).unflatten(1, (groups, places)).permute(0, 3, 2, 1)
    y, x = _places(offset.shape[2:], conv, full_precision(offset))  # (Y * X, K, 1)
    group = torch.arange(groups, dtype=torch.int32, device=input.device)[:, None]
    columns = _CPU_COLUMNS if input.device.type == 'cpu' else _COLUMNS
    step = max(1, min(terms_at_once(input.device) // (4 * places * groups), columns // (places * channels)))
    for image in range(images):
        for start in range(0, len(y), step):
            pixels = slice(start, start + step)
            moved = full_precision(offsets[image, pixels])
            found = corners(x[pixels] + moved[..., 1], y[pixels] + moved[..., 0], width, height)
            found = found._replace(pixel=found.pixel.mul_(groups).add_(group))
            factor = None if masks is None else full_precision(masks[image, pixels])
            weight = found.weight if factor is None else found.weight * factor[..., None]
            yield _Block(image, pixels, tables[image], found, weight, factor)


def _places(size: torch.Size, conv: _Conv, like: Tensor) -> list[Tensor]:
    """Returns y and x of the samples of a plain convolution, each (Y * X, K, 1)."""
    axes = []
    for axis in range(2):
        out = torch.arange(size[axis], device=like.device, dtype=like.dtype) * conv.stride[axis] - conv.padding[axis]
        tap = torch.arange(conv.kernel[axis], device=like.device, dtype=like.dtype) * conv.dilation[axis]
        axes.append(out[:, None] + tap)
    y = axes[0][:, None, :, None].expand(-1, size[1], -1, conv.kernel[1])
    x = axes[1][None, :, None, :].expand(size[0], -1, conv.kernel[0], -1)
    return [each.flatten(2).flatten(0, 1)[..., None] for each in (y, x)]


def _grouped(grad_output: Tensor, block: _Block, conv: _Conv) -> Tensor:
    grad = full_precision(grad_output[block.image].flatten(1)[:, block.pixels])  # (O, n)
    return grad.unflatten(0, (conv.groups, -1)).transpose(1, 2)  # (E, n, O / E)
