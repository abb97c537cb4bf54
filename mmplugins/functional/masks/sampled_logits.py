"""Sampling at points: logits with a gradient, and the choice of uncertain points; ``sampled_masks.py`` has masks.

Papers: PointRend (CVPR 2020), Mask2Former (CVPR 2022). Released code: detectron2's point_features.py, which calls
``grid_sample`` on float maps; Mask2Former's criterion.py.

A point is x,y in units of the image, 0 to 1; pixel i has its centre at (i + 0.5) / size. Between centres a value is
interpolated, and outside the image everything is 0: ``grid_sample`` with corners not aligned and zeros outside.

Deliberate differences:

- The most uncertain points are found by a partial sort of |logit|; their order is arbitrary. The logits already
  sampled there are returned with them, not sampled again.
- The gradient to the logits is written where it belongs, into the rows that were sampled; the rest of its memory is
  never touched on the CPU. ``mask_product`` is told which rows these are.

Letters: N maps, h w their size, P points, M rows of points.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmplugins.functional.device import at_once, cpu_kernels, full_dtype, full_precision, zeros_buffer
from mmplugins.functional.gradients import first_order
from mmplugins.functional.masks.cpu import smallest, to_grid
from mmplugins.functional.masks.product import product_of, tell_rows

_CPU_MAPS = 8  # maps sampled together at shared points
_CPU_ROWS = 4  # rows of points whose gradient is scattered together


def sample_logits(
    logits: Tensor, points: Tensor, rows: Sequence[Tensor] | None = None, values: Tensor | None = None
) -> Tensor:
    """Interpolates logits at points, with a gradient to the logits.

    Args:
        logits: float32 or float64 (half precision is sampled in float32), shape (N, h, w), or with more axes in front
            if ``rows`` is given.
        points: x,y in 0 to 1, shape (M, P, 2).
        rows: Which map each row of points is for: an int64 (M,) for each axis before h, w. None: row i is
            for map i.
        values: What the samples are known to be, (M, P); None: they are computed.

    Returns:
        Values, (M, P), float32 or float64.

    Raises:
        ValueError: Shapes do not fit.
    """
    maps = logits.shape[:-2]
    if points.dim() != 3 or points.shape[-1] != 2 or (rows is None and (points.shape[0],) != tuple(maps)):
        raise ValueError(
            f'expected logits (N, h, w) and points (N, P, 2), a row for each map, or rows that say which; got logits '
            f'{tuple(logits.shape)} and points {tuple(points.shape)}'
        )
    if values is None:
        with torch.no_grad():
            maps = logits.detach() if rows is None else logits.detach()[tuple(rows)]
            values = grid_values(full_precision(maps), points)
    return _SampledLogits.apply(logits, points, values, *(rows or ()))


def grid_values(maps: Tensor, points: Tensor) -> Tensor:
    """Samples each map, (N, h, w), at its row of points, (N, P, 2), or all at (P, 2); returns (N, P)."""
    grid = to_grid(points.to(maps.dtype)).expand(len(maps), *points.shape[-2:])
    return F.grid_sample(maps[:, None], grid[:, None], mode='bilinear', align_corners=False)[:, 0, 0]


def sample_into(values: Tensor, maps: Tensor, points: Tensor) -> None:
    """Samples maps of any floating dtype, (N, h, w), at the same points, (P, 2), into ``values`` (N, P)."""
    if not cpu_kernels(maps):
        values.copy_(grid_values(maps.to(values.dtype), points))
        return
    grid = to_grid(points)[None, None]
    for part, some in zip(values.split(_CPU_MAPS), maps.split(_CPU_MAPS), strict=True):
        # as channels of one map: what the points have in common is computed once
        sampled = F.grid_sample(some.to(values.dtype)[None], grid, mode='bilinear', align_corners=False)
        part.copy_(sampled[0, :, 0])


class _SampledLogits(torch.autograd.Function):
    """Ties sampled values to the logits they come from."""

    @staticmethod
    def forward(ctx, logits: Tensor, points: Tensor, values: Tensor, *rows: Tensor) -> Tensor:
        ctx.save_for_backward(points, *rows)
        ctx.shape, ctx.dtype, ctx.product = logits.shape, logits.dtype, product_of(logits)
        return values.view_as(values)

    @staticmethod
    @first_order('sample_logits')
    def backward(ctx, grad_values: Tensor) -> tuple[Tensor | None, ...]:
        points, *rows = ctx.saved_tensors
        grad = gradient_of_maps(ctx, grad_values.__getitem__, points, rows)
        return grad, None, None, *(None for _ in rows)


def gradient_of_maps(
    ctx: FunctionCtx, grad_values: Callable[[slice], Tensor], points: Tensor, rows: Sequence[Tensor]
) -> Tensor:
    """Returns the gradient of the logits from that of the values sampled from them.

    Args:
        ctx: Has the logits' ``shape`` and ``dtype``, and their ``product``, what ``product_of`` returns.
        grad_values: Returns the gradient of some rows of values, (m, P).
        points: x,y in 0 to 1, (M, P, 2).
        rows: As in ``sample_logits``; empty: row i is for map i.
    """
    grad = zeros_buffer(ctx.shape, ctx.dtype, points.device)
    flat, places = grad.view(-1, *ctx.shape[-2:]), flat_rows(rows, ctx.shape)
    step = at_once(grad, _CPU_ROWS, len(points))
    for start in range(0, len(points), step):
        part = slice(start, start + step)
        maps = _scatter(grad_values(part), points[part], ctx.shape[-2:]).to(ctx.dtype)
        if places is None:
            flat[part] = maps
        else:
            flat.index_add_(0, places[part], maps)
    if places is not None:
        tell_rows(ctx.product, grad, places)
    return grad


def flat_rows(rows: Sequence[Tensor], shape: Sequence[int]) -> Tensor | None:
    """Joins indices into the axes before h, w into one into their product; None if there are none."""
    if not rows:
        return None
    place = rows[0]
    for row, size in zip(rows[1:], shape[1:], strict=False):
        place = place * size + row
    return place


def _scatter(grad_values: Tensor, points: Tensor, size: Sequence[int]) -> Tensor:
    """Adds the gradient of each sample, (M, P), to the four logits it was made of; returns (M, h, w)."""
    grid = to_grid(points.to(grad_values.dtype))
    maps = grad_values.new_zeros(()).expand(len(points), 1, *size)  # the backward pass looks at its shape only
    bilinear, zeros, only_maps = 0, 0, [True, False]
    backward = torch.ops.aten.grid_sampler_2d_backward
    return backward(grad_values[:, None, None], maps, grid[:, None], bilinear, zeros, False, only_maps)[0][:, 0]


def uncertain_points(
    maps: Tensor,
    num_points: int,
    oversample_ratio: float = 3.0,
    importance_sample_ratio: float = 0.75,
    generator: torch.Generator | None = None,
    draws: tuple[Tensor, Tensor] | None = None,
    valid_points: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Chooses points where a map's sign is least certain, and some anywhere.

    1. Draw ``oversample_ratio * num_points`` points of each map uniformly and sample the logits there.
    2. Keep the ``importance_sample_ratio * num_points`` of the smallest |logit|; ignored points last.
    3. Fill up with points drawn uniformly.

    Args:
        maps: Logits, float32 or float64, shape (N, h, w).
        num_points: Number of points P of each map.
        oversample_ratio: How many points are drawn for each that is wanted, at least 1.
        importance_sample_ratio: Share of the points chosen by uncertainty, 0 to 1.
        generator: Source of the draws, on the maps' device; None: torch's own.
        draws: The draws themselves: (N, int(P * oversample_ratio), 2) and (N, P - int(P * importance_sample_ratio), 2).
        valid_points: Returns which of some points, (N, K, 2), are not ignored, bool (N, K); None: none is.

    Returns:
        Points x,y in 0 to 1, (N, P, 2), those chosen by uncertainty first; and the logits there, (N, P).

    Raises:
        ValueError: Settings out of range, or draws of another shape.
    """
    num_drawn, num_chosen = check_sampling(num_points, oversample_ratio, importance_sample_ratio)
    shapes = ((len(maps), num_drawn, 2), (len(maps), num_points - num_chosen, 2))
    if draws is None:
        draws = [draw_points(shape[:-1], maps, generator) for shape in shapes]
    elif tuple(tuple(draw.shape) for draw in draws) != shapes:
        raise ValueError(f'expected draws of the shapes {shapes}, got {tuple(tuple(draw.shape) for draw in draws)}')
    with torch.no_grad():
        drawn, rest = draws
        values, others = grid_values(maps, drawn), grid_values(maps, rest)  # step 1
        del maps  # here and below: what is not needed any more makes room
        certainty = values.abs()
        if valid_points is not None:
            certainty.masked_fill_(~valid_points(drawn), torch.inf)
        chosen = smallest(certainty, num_chosen)  # step 2
        del certainty
        points = drawn.new_empty(2, len(drawn), num_points)  # x and y apart: what follows works on each by itself
        for axis, coordinate in enumerate(points):
            torch.gather(drawn[..., axis], 1, chosen, out=coordinate[:, :num_chosen])
            coordinate[:, num_chosen:] = rest[..., axis]  # step 3
        return points.permute(1, 2, 0), torch.cat((values.gather(1, chosen), others), 1)


def draw_points(shape: Sequence[int], maps: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws points x,y in 0 to 1 uniformly.

    Args:
        shape: Of the result, without its last axis.
        maps: What will be sampled there; only the dtype (float32, or float64 for float64) and device matter.
        generator: Source of the draws, on the device; None: torch's own.

    Returns:
        Shape (*shape, 2), x and y apart in memory.
    """
    return torch.rand(2, *shape, generator=generator, dtype=full_dtype(maps), device=maps.device).movedim(0, -1)


def check_sampling(num_points: int, oversample_ratio: float, importance_sample_ratio: float) -> tuple[int, int]:
    """Checks the settings of the sampling; returns how many points are drawn and chosen."""
    if num_points < 1:
        raise ValueError(f'num_points must be at least 1, got {num_points}')
    if oversample_ratio < 1:
        raise ValueError(f'oversample_ratio must be at least 1, got {oversample_ratio}; fewer points cannot be chosen')
    if not 0 <= importance_sample_ratio <= 1:
        raise ValueError(f'importance_sample_ratio is a share, 0 to 1, got {importance_sample_ratio}')
    return int(oversample_ratio * num_points), int(importance_sample_ratio * num_points)
