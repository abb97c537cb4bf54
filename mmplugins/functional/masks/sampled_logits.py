"""Sampling at points: logits with a gradient, and the choice of uncertain points; masks are in ``mask_points.py``.

Papers: PointRend (CVPR 2020), Mask2Former (CVPR 2022). Released code: detectron2's point_features.py, which calls
``grid_sample`` on float maps; Mask2Former's criterion.py.

A point is x,y in units of the image, 0 to 1; pixel i has its centre at (i + 0.5) / size. Between centres a value is
interpolated, and outside the image everything is 0: ``grid_sample`` with corners not aligned and zeros outside.

Deliberate differences:

- The most uncertain points are found by a partial sort of |logit|; their order is arbitrary. The logits already
  sampled there are returned with them, not sampled again.
- The gradient to the logits is written where it belongs, into the rows that were sampled; the rest of its memory is
  never touched on the CPU, and does not exist where ``mask_product`` made the logits: it takes a sparse gradient.

Letters: N maps, h w their size, P points, M rows of points.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmplugins.functional.device import empty_buffer, zeros_buffer
from mmplugins.functional.masks.product import takes_rows
from mmplugins.functional.masks.sampled_masks import MINUS_ONE

_CPU_MAPS = 16  # maps sampled at once at shared points
_CPU_ROWS = 4  # rows of points sampled at once, so that what is made of them stays in the cache


def sample_logits(
    logits: Tensor, points: Tensor, rows: Sequence[Tensor] | None = None, values: Tensor | None = None
) -> Tensor:
    """Interpolates logits at points, with a gradient to the logits: a sparse one if ``rows`` are of ``mask_product``'s.

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
            values = grid_values(gather_maps(logits.detach(), rows), points)
    return _SampledLogits.apply(logits, points, values, rows is not None and takes_rows(logits), *(rows or ()))


def gather_maps(logits: Tensor, rows: Sequence[Tensor] | None) -> Tensor:
    """Gives the maps that are sampled, (M, h, w), float32 or float64; see ``sample_logits``."""
    maps = logits if rows is None else logits[tuple(rows)]
    return maps if maps.dtype == torch.float64 else maps.float()


def grid_values(maps: Tensor, points: Tensor) -> Tensor:
    """Samples each map, (N, h, w), at its row of points, (N, P, 2), or all at (P, 2); gives (N, P)."""
    grid = _grid(points.to(maps.dtype)).expand(len(maps), *points.shape[-2:])
    return F.grid_sample(maps[:, None], grid[:, None], mode='bilinear', align_corners=False)[:, 0, 0]


def _grid(points: Tensor) -> Tensor:
    """Converts points x,y in 0 to 1 to the -1 to 1 of ``grid_sample``."""
    return torch.add(MINUS_ONE, points, alpha=2)


def sample_into(values: Tensor, maps: Tensor, points: Tensor) -> None:
    """Samples maps of any floating dtype, (N, h, w), at the same points, (P, 2), into ``values`` (N, P)."""
    step = _CPU_MAPS if maps.device.type == 'cpu' else max(len(maps), 1)
    for part, some in zip(values.split(step), maps.split(step), strict=True):
        part.copy_(grid_values(some.to(values.dtype), points))


def sort_points(points: Tensor, height: int, width: int) -> Tensor:
    """Brings points into the order of the pixels that they fall on, which the processor's cache is faster with.

    Args:
        points: x,y in 0 to 1, shape (..., P, 2), x and y apart in memory.
        height: Of what will be sampled, in pixels.
        width: Of what will be sampled, in pixels.

    Returns:
        The same points of each row, in another order; off the CPU in the same one.
    """
    if points.device.type != 'cpu':
        return points
    pixel = torch.add(points[..., 0] * width, (points[..., 1] * height).floor_(), alpha=width).int()
    order = torch.from_numpy(np.argsort(pixel.numpy(), -1))
    return torch.stack([coordinate.gather(-1, order) for coordinate in points.unbind(-1)]).movedim(0, -1)


class _SampledLogits(torch.autograd.Function):
    """Ties sampled values to the logits they come from."""

    @staticmethod
    def forward(ctx, logits: Tensor, points: Tensor, values: Tensor, sparse: bool, *rows: Tensor) -> Tensor:
        ctx.save_for_backward(points, *rows)
        ctx.shape, ctx.dtype, ctx.sparse = logits.shape, logits.dtype, sparse
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_values: Tensor) -> tuple[Tensor | None, ...]:
        points, *rows = ctx.saved_tensors
        size, places = ctx.shape[-2:], flat_rows(rows, ctx.shape)
        if ctx.sparse:
            grad = flat = empty_buffer((len(points), *size), ctx.dtype, grad_values.device)
        else:
            grad = zeros_buffer(ctx.shape, ctx.dtype, grad_values.device)
            flat = grad.view(-1, *size)
        step = _CPU_ROWS if grad.device.type == 'cpu' else max(len(points), 1)
        for start in range(0, len(points), step):
            part = slice(start, start + step)
            maps = _scatter(grad_values[part], points[part], size).to(ctx.dtype)
            if places is None or ctx.sparse:
                flat[part] = maps
            else:
                flat.index_add_(0, places[part], maps)
        if ctx.sparse:
            grad = torch.sparse_coo_tensor(torch.stack(rows), flat, ctx.shape, check_invariants=False)
        return grad, None, None, None, *(None for _ in rows)


def flat_rows(rows: Sequence[Tensor], shape: Sequence[int]) -> Tensor | None:
    """Joins indices into the axes before h, w into one into their product; None if there are none."""
    if not rows:
        return None
    place = rows[0]
    for row, size in zip(rows[1:], shape[1:], strict=False):
        place = place * size + row
    return place


def _scatter(grad_values: Tensor, points: Tensor, size: Sequence[int]) -> Tensor:
    """Adds the gradient of each sample, (M, P), to the four logits it was made of; gives (M, h, w)."""
    grid = _grid(points.to(grad_values.dtype))
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
    takes_part: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Chooses points where a map's sign is least certain, and some anywhere.

    1. Draw ``oversample_ratio * num_points`` points of each map uniformly and sample the logits there.
    2. Keep the ``importance_sample_ratio * num_points`` of the smallest |logit|; points that take no part last.
    3. Fill up with points drawn uniformly.

    Args:
        maps: Logits, float32 or float64, shape (N, h, w).
        num_points: Number of points P of each map.
        oversample_ratio: How many points are drawn for each that is wanted, at least 1.
        importance_sample_ratio: Share of the points chosen by uncertainty, 0 to 1.
        generator: Source of the draws, on the maps' device; None: torch's own.
        draws: The draws themselves: (N, int(P * oversample_ratio), 2) and (N, P - int(P * importance_sample_ratio), 2).
        takes_part: Tells which of some points, (N, K, 2), take part, bool (N, K); None: all.

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
        values = grid_values(maps, drawn)  # step 1
        certainty = values.abs()
        if takes_part is not None:
            certainty.masked_fill_(~takes_part(drawn), torch.inf)
        chosen = _smallest(certainty, num_chosen)  # step 2
        points = drawn.new_empty(2, len(maps), num_points)  # x and y apart: what follows works on each by itself
        for axis, coordinate in enumerate(points):
            torch.gather(drawn[..., axis], 1, chosen, out=coordinate[:, :num_chosen])
            coordinate[:, num_chosen:] = rest[..., axis]  # step 3
        return points.permute(1, 2, 0), torch.cat((values.gather(1, chosen), grid_values(maps, rest)), 1)


def draw_points(shape: Sequence[int], maps: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws points x,y in 0 to 1 uniformly.

    Args:
        shape: Of the result, without its last axis.
        maps: What will be sampled there; only the dtype (float32, or float64 for float64) and device matter.
        generator: Source of the draws, on the device; None: torch's own.

    Returns:
        Shape (*shape, 2), x and y apart in memory.
    """
    dtype = torch.float64 if maps.dtype == torch.float64 else torch.float32
    return torch.rand(2, *shape, generator=generator, dtype=dtype, device=maps.device).movedim(0, -1)


def check_sampling(num_points: int, oversample_ratio: float, importance_sample_ratio: float) -> tuple[int, int]:
    """Checks the settings of the sampling; returns how many points are drawn and chosen."""
    if num_points < 1:
        raise ValueError(f'num_points must be at least 1, got {num_points}')
    if oversample_ratio < 1:
        raise ValueError(f'oversample_ratio must be at least 1, got {oversample_ratio}; fewer points cannot be chosen')
    if not 0 <= importance_sample_ratio <= 1:
        raise ValueError(f'importance_sample_ratio is a share, 0 to 1, got {importance_sample_ratio}')
    return int(oversample_ratio * num_points), int(importance_sample_ratio * num_points)


def _smallest(values: Tensor, count: int) -> Tensor:
    """Gives the indices of the smallest values of each row, (N, count), in any order; values are not negative."""
    if values.device.type != 'cpu' or not 0 < count < values.shape[1]:
        return values.topk(count, dim=1, largest=False, sorted=False).indices
    bits = torch.int32 if values.dtype == torch.float32 else torch.int64  # not negative: ordered as their bits are
    chosen = np.argpartition(values.view(bits).numpy(), count - 1, axis=1)[:, :count]  # vectorised where AVX-512 is
    return torch.from_numpy(np.ascontiguousarray(chosen))
