"""Multi-scale deformable attention: the operators that mmcv calls, and a function that any code can call.

Paper: Zhu et al., Deformable DETR, ICLR 2021, equation 3. Released code, whose kernel mmcv took over:
``models/ops/src/cuda/ms_deform_im2col_cuda.cuh``. Differences: float16 and bfloat16 are computed in float32.

Neither samples nor corners of all queries ever exist at once: the work is done an image, some heads and some queries at
a time, and the backward pass computes the corners again instead of keeping them.

Letters: B images, S pixels of all levels, M heads, D channels of a head, Q queries, L levels, P points.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd import Function

from mmplugins.functional.device import full_precision
from mmplugins.functional.gradients import first_order

from .bilinear import Corners, corners, point_grads
from .rows import add_table_grad, sum_rows, sum_rows_weight_grad, terms_at_once


def multi_scale_deformable_attn(
    value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Samples the values of each head at points of all levels, and sums them with attention weights.

    Takes the place of mmcv's ``multi_scale_deformable_attn_pytorch``, on any device, with gradients (once).

    Args:
        value: (B, S, M, D), floating.
        spatial_shapes: (L, 2), integers, height and width of each level.
        sampling_locations: (B, Q, M, L, P, 2), x and y in [0, 1], 0 and 1 at the outer edges of the first and last
            pixel; a point outside samples zeros.
        attention_weights: (B, Q, M, L, P).

    Returns:
        (B, Q, M * D).
    """
    shapes = torch.as_tensor(spatial_shapes, device=value.device)
    starts = _starts(shapes)
    return _Attention.apply(value, shapes, starts, sampling_locations, attention_weights)


class _Attention(Function):
    @staticmethod
    def forward(ctx, value, shapes, starts, locations, weights):
        ctx.save_for_backward(value, shapes, starts, locations, weights)
        return ms_deform_attn_forward(value, shapes, starts, locations, weights)

    @staticmethod
    @first_order('ms_deform_attn')
    def backward(ctx, grad_output):
        value, _, _, locations, weights = ctx.saved_tensors
        grads = torch.zeros_like(value), torch.zeros_like(locations), torch.zeros_like(weights)
        ms_deform_attn_backward(*ctx.saved_tensors, grad_output, *grads)
        return grads[0], None, None, grads[1], grads[2]


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int = 64,
) -> Tensor:
    """Computes the attention as mmcv's operator of this name; see ``multi_scale_deformable_attn`` for the arguments.

    Args:
        value: (B, S, M, D).
        value_spatial_shapes: (L, 2).
        value_level_start_index: (L,), first pixel of each level.
        sampling_locations: (B, Q, M, L, P, 2).
        attention_weights: (B, Q, M, L, P).
        im2col_step: Not used.

    Returns:
        (B, Q, M * D), of the dtype of ``value``.
    """
    images, _, heads, channels = value.shape
    output = value.new_empty(images, sampling_locations.shape[1], heads, channels)
    for block in _blocks(value, sampling_locations):
        table = _table(value, block)
        found = _corners(value_spatial_shapes, value_level_start_index, sampling_locations, block)
        weight = found.weight * full_precision(attention_weights[block.points])[..., None]
        sums = sum_rows(table, found.pixel.flatten(2).flatten(0, 1), weight.flatten(2).flatten(0, 1))
        output[block.points] = sums.view(*weight.shape[:2], channels).to(value.dtype)
    return output.flatten(2)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int = 64,
) -> None:
    """Computes the gradients as mmcv's operator of this name.

    Args:
        value: (B, S, M, D).
        value_spatial_shapes: (L, 2).
        value_level_start_index: (L,).
        sampling_locations: (B, Q, M, L, P, 2).
        attention_weights: (B, Q, M, L, P).
        grad_output: (B, Q, M * D).
        grad_value: (B, S, M, D), zeros; written.
        grad_sampling_loc: (B, Q, M, L, P, 2); written.
        grad_attn_weight: (B, Q, M, L, P); written.
        im2col_step: Not used.
    """
    grad_output = grad_output.unflatten(-1, value.shape[2:])
    size = value_spatial_shapes.flip(-1)[:, None]  # (L, 1, 2), width and height
    for block in _blocks(value, sampling_locations):
        table = _table(value, block)
        found = _corners(value_spatial_shapes, value_level_start_index, sampling_locations, block)
        attention = full_precision(attention_weights[block.points])
        weight = found.weight * attention[..., None]
        pixel = found.pixel.flatten(2).flatten(0, 1)  # (q * m, L * P * 4)
        grad = full_precision(grad_output[block.points]).flatten(0, 1)  # (q * m, D)

        rows = torch.zeros_like(table)
        add_table_grad(rows, grad, pixel, weight.flatten(2).flatten(0, 1))
        grad_value[block.image, :, block.heads] += rows.view(value.shape[1], -1, value.shape[3]).to(value.dtype)
        del rows, weight
        dots = sum_rows_weight_grad(grad, table, pixel).view(found.pixel.shape)
        by_weight, by_x, by_y = point_grads(dots, found)
        grad_attn_weight[block.points] = by_weight.to(grad_attn_weight.dtype)
        by_point = torch.stack([by_x, by_y], -1) * attention[..., None] * size
        grad_sampling_loc[block.points] = by_point.to(grad_sampling_loc.dtype)


class _Block:
    """Some queries and heads of an image; ``points`` indexes what has a query, ``image`` and ``heads`` the value."""

    def __init__(self, image: int, heads: slice, queries: slice) -> None:
        self.image, self.heads = image, heads
        self.points = image, queries, heads


def _blocks(value: Tensor, locations: Tensor) -> Iterator[_Block]:
    images, queries, heads, levels, points, _ = locations.shape
    limit = max(1, terms_at_once(value.device) // max(1, levels * points * 4))  # sums at once
    head_step = max(1, min(heads, limit // max(1, queries)))
    query_step = max(1, limit // head_step)
    for image in range(images):
        for head in range(0, heads, head_step):
            for query in range(0, queries, query_step):
                yield _Block(image, slice(head, head + head_step), slice(query, query + query_step))


def _table(value: Tensor, block: _Block) -> Tensor:
    return full_precision(value[block.image, :, block.heads]).flatten(0, 1)  # (S * m, D), pixel by pixel, head by head


def _corners(shapes: Tensor, starts: Tensor, locations: Tensor, block: _Block) -> Corners:
    """Finds the corners of a block's points, (q, m, L, P, ...), as rows of its table."""
    height, width = shapes.int()[:, :1], shapes.int()[:, 1:]  # (L, 1)
    location = full_precision(locations[block.points])
    found = corners(location[..., 0] * width - 0.5, location[..., 1] * height - 0.5, width, height)
    heads = location.shape[1]
    head = torch.arange(heads, dtype=torch.int32, device=location.device)[:, None, None, None]
    pixel = found.pixel.add_(starts.int()[:, None, None]).mul_(heads).add_(head)
    return found._replace(pixel=pixel)


def _starts(shapes: Tensor) -> Tensor:
    sizes = shapes.prod(1)
    return sizes.cumsum(0) - sizes
