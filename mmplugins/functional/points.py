"""Sampling at points: masks without a float copy of them, logits with a gradient, and the choice of uncertain points.

Papers: PointRend (CVPR 2020), Mask2Former (CVPR 2022). Released code: detectron2's point_features.py, which calls
``grid_sample`` on float maps; Mask2Former's criterion.py.

A point is x,y in units of the image, 0 to 1; pixel i has its centre at (i + 0.5) / size. Between centres a value is
interpolated, and outside the image everything is 0: ``grid_sample`` with corners not aligned and zeros outside.

Deliberate differences:

- Masks stay bool or integer: the four pixels around a point are gathered as they are, then weighted.
- The most uncertain points are found by a partial sort of |logit|; their order is arbitrary. The logits already
  sampled there are returned with them, not sampled again.
- The gradient to the logits is written where it belongs, into the rows that were sampled; the rest of its memory is
  never touched on the CPU.

Letters: N maps, h w their size, G masks, H W theirs, P points, M rows of points.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_CPU_ROWS = 4  # rows of points sampled at once, so that what is made of them stays in the cache

Participation = Callable[[Tensor], Tensor]


def sample_masks(masks: Tensor, points: Tensor, index: Tensor | None = None) -> Tensor:
    """Interpolates masks at points; equals ``grid_sample`` of the masks as floats. No gradient flows.

    Args:
        masks: bool, integer or floating, shape (G, H, W).
        points: float32 or float64, x,y in 0 to 1: shape (P, 2), the same for all masks; or (M, P, 2), a row each.
        index: int64 (M,), which mask each row of points is for; None: row i is for mask i, and M is G.

    Returns:
        Values, dtype of the points: (G, P) where the masks share the points, else (M, P).

    Raises:
        ValueError: Shapes do not fit.
    """
    _check_mask_call(masks, points, index)
    with torch.no_grad():
        if points.dim() == 2:
            return _sample_shared(masks, points)
        if masks.device.type != 'cpu':
            return _sample_rows(masks, points, index)
        rows = range(len(points)) if index is None else index.tolist()
        values = points.new_empty(points.shape[:2])
        by_mask: dict[int, list[int]] = {}
        for row, mask in enumerate(rows):
            by_mask.setdefault(mask, []).append(row)
        for mask, members in by_mask.items():
            for start in range(0, len(members), _CPU_ROWS):
                part = members[start : start + _CPU_ROWS]
                values[part] = _sample_shared(masks[mask][None], points[part].flatten(0, 1)).view(len(part), -1)
        return values


def _check_mask_call(masks: Tensor, points: Tensor, index: Tensor | None) -> None:
    if masks.dim() != 3:
        raise ValueError(f'expected masks (G, H, W), got {tuple(masks.shape)}')
    if points.shape[-1:] != (2,) or points.dim() not in (2, 3):
        raise ValueError(
            f'expected points (P, 2), or (M, P, 2) for a row each, x,y in 0 to 1, got {tuple(points.shape)}'
        )
    rows = len(masks) if index is None else len(index)
    if points.dim() == 3 and len(points) != rows:
        raise ValueError(f'expected a row of points for each of {rows} masks, got {len(points)} rows')


def _sample_shared(masks: Tensor, points: Tensor) -> Tensor:
    """Samples all masks, (G, H, W), at the same points, (P, 2); gives (G, P)."""
    index, weight = neighbours(points, *masks.shape[1:])  # (4, P)
    flat, index = masks.reshape(len(masks), -1), index.flatten()
    if masks.dtype == torch.bool:
        flat = flat.view(torch.uint8)
    if masks.device.type != 'cpu':
        return (flat[:, index].view(len(masks), 4, -1).to(weight.dtype) * weight).sum(1)
    values = weight.new_empty(len(masks), weight.shape[1])
    for row, mask in zip(values, flat, strict=True):
        torch.sum(mask.index_select(0, index).view(weight.shape).to(weight.dtype).mul_(weight), 0, out=row)
    return values


def _sample_rows(masks: Tensor, points: Tensor, index: Tensor | None) -> Tensor:
    """Samples each row of points, (M, P, 2), in its mask, without a gather of masks; gives (M, P)."""
    corners, weight = neighbours(points.flatten(0, 1), *masks.shape[1:])  # (4, M * P)
    index = torch.arange(len(points), device=points.device) if index is None else index
    corners = corners.view(4, *points.shape[:2]) + index[:, None] * masks[0].numel()
    values = masks.reshape(-1)[corners].to(points.dtype)
    return (values * weight.view_as(values)).sum(0)


def neighbours(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Finds the four pixels around each point, and how much each counts.

    The position is computed as ``grid_sample`` does, rounding included: half a unit in the last place of a position
    far from the origin would move the value between two pixels.

    Args:
        points: Floating, x,y in 0 to 1, shape (P, 2).
        height: Of the map, in pixels.
        width: Of the map, in pixels.

    Returns:
        Indices into the flattened map, int64 (4, P), and weights (4, P), 0 for a pixel outside.
    """
    (left, right), across = _along(points[:, 0], width)
    (top, bottom), down = _along(points[:, 1], height)
    top, bottom = top * width, bottom * width
    index = torch.stack((top + left, top + right, bottom + left, bottom + right))
    weight = torch.stack((down[0] * across[0], down[0] * across[1], down[1] * across[0], down[1] * across[1]))
    return index, weight


def _along(coordinate: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Gives the two neighbours along an axis, clamped into the map, and their weights, 0 outside; each (P,)."""
    position = torch.add(coordinate.new_tensor(-0.5), coordinate * 2 - 1 + 1, alpha=size / 2)  # one rounding
    position.clamp_(-1, size)  # further out there is nothing either
    low = position.floor()
    share = position - low
    first, second = low.clamp(0, size - 1), (low + 1).clamp_(0, size - 1)
    weights = ((1 - share).mul_(first == low), share.mul_(second == low + 1))
    return (first.long(), second.long()), weights


def sample_logits(
    logits: Tensor, points: Tensor, rows: Sequence[Tensor] | None = None, values: Tensor | None = None
) -> Tensor:
    """Interpolates logits at points, with a gradient to the logits.

    Args:
        logits: float32 or float64 (half precision is sampled in float32), shape (N, h, w), or with more axes in front
            if ``rows`` is given.
        points: x,y in 0 to 1, shape (M, P, 2).
        rows: Which map each row of points is for: an int64 (M,) for each axis before h, w; none twice. None: row i is
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
    return _SampledLogits.apply(logits, points, values, *(rows or ()))


def gather_maps(logits: Tensor, rows: Sequence[Tensor] | None) -> Tensor:
    """Gives the maps that are sampled, (M, h, w), float32 or float64; see ``sample_logits``."""
    maps = logits if rows is None else logits[tuple(rows)]
    return maps if maps.dtype == torch.float64 else maps.float()


def grid_values(maps: Tensor, points: Tensor) -> Tensor:
    """Samples each map, (N, h, w), at its row of points, (N, P, 2), or all at (P, 2); gives (N, P)."""
    grid = (2 * points.to(maps.dtype) - 1).expand(len(maps), *points.shape[-2:])
    return F.grid_sample(maps[:, None], grid[:, None], mode='bilinear', align_corners=False)[:, 0, 0]


class _SampledLogits(torch.autograd.Function):
    """Ties sampled values to the logits they come from."""

    @staticmethod
    def forward(ctx, logits: Tensor, points: Tensor, values: Tensor, *rows: Tensor) -> Tensor:
        ctx.save_for_backward(points, *rows)
        ctx.shape, ctx.dtype = logits.shape, logits.dtype
        return values.clone() if values.requires_grad else values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_values: Tensor) -> tuple[Tensor | None, ...]:
        points, *rows = ctx.saved_tensors
        grad = untouched_zeros(ctx.shape, ctx.dtype, grad_values.device)
        step = _CPU_ROWS if grad.device.type == 'cpu' else max(len(points), 1)
        for start in range(0, len(points), step):
            part = slice(start, start + step)
            maps = _scatter(grad_values[part], points[part], *ctx.shape[-2:]).to(ctx.dtype)
            if rows:
                grad[tuple(row[part] for row in rows)] = maps
            else:
                grad[part] = maps
        return grad, None, None, *(None for _ in rows)


def untouched_zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Makes zeros; on the CPU from pages that the system clears when they are first written, mostly never."""
    if device.type != 'cpu' or dtype == torch.bfloat16:
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(tuple(shape), dtype=str(dtype).removeprefix('torch.')))


def _scatter(grad_values: Tensor, points: Tensor, height: int, width: int) -> Tensor:
    """Adds the gradient of each sample, (M, P), to the four logits it was made of; gives (M, h, w)."""
    num_rows = len(points)
    index, weight = neighbours(points.to(grad_values.dtype).flatten(0, 1), height, width)  # (4, M * P)
    index = index.view(4, num_rows, -1) + torch.arange(num_rows, device=index.device)[:, None] * (height * width)
    weight = weight.mul_(grad_values.reshape(-1))
    maps = grad_values.new_zeros(num_rows * height * width)
    return maps.scatter_add_(0, index.flatten(), weight.flatten()).view(num_rows, height, width)


def uncertain_points(
    maps: Tensor,
    num_points: int,
    oversample_ratio: float = 3.0,
    importance_sample_ratio: float = 0.75,
    generator: torch.Generator | None = None,
    draws: tuple[Tensor, Tensor] | None = None,
    takes_part: Participation | None = None,
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
        draws = [torch.rand(shape, generator=generator, dtype=maps.dtype, device=maps.device) for shape in shapes]
    elif tuple(tuple(draw.shape) for draw in draws) != shapes:
        raise ValueError(f'expected draws of the shapes {shapes}, got {tuple(tuple(draw.shape) for draw in draws)}')
    with torch.no_grad():
        drawn, rest = draws
        values = grid_values(maps, drawn)  # step 1
        certainty = values.abs()
        if takes_part is not None:
            certainty.masked_fill_(~takes_part(drawn), torch.inf)
        chosen = _smallest(certainty, num_chosen)  # step 2
        points = torch.view_as_complex(drawn.contiguous()).gather(1, chosen)
        points = torch.cat((torch.view_as_real(points), rest), 1)  # step 3
        return points, torch.cat((values.gather(1, chosen), grid_values(maps, rest)), 1)


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
