"""RoIAlign with mmcv's arguments: average or maximum over a grid of bilinear samples in each bin.

Paper: He et al., Mask R-CNN, ICCV 2017, section 3. The rules of the samples are those of mmcv's kernels
(``ops/csrc/pytorch/cpu/roi_align.cpp``): with ``sampling_ratio`` 0 a bin of h x w pixels has ceil(h) x ceil(w) samples,
a sample up to one pixel outside the map counts at its edge, and one farther out is zero. Difference: positions are
computed in float32 where the features are float16 or bfloat16.

The samples of a bin are a grid, so their weights are the product of a row's and a column's. RoIs are taken in order of
their number of samples, as many at once as fit, so that a large one does not widen all the others.

Letters: N RoIs, B images, C channels, H W size of the map, P Q bins along y and x, g k samples of a bin along y and x.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mmplugins.functional.device import full_precision

from .rows import add_table_grad, sum_rows, terms_at_once
from .tables import add_to_map, table_of
from .vision import torchvision_operator

MAX, AVERAGE = 0, 1  # pool_mode


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pools features of RoIs, as mmcv's operator of this name.

    Args:
        input: (B, C, H, W), floating.
        rois: (N, 5), index of the image, then x1, y1, x2, y2 in pixels of the image.
        output: (N, C, P, Q); written.
        argmax_y: (N, C, P, Q) if the maximum is taken, row of the largest sample in pixels of the map; written.
        argmax_x: The same for columns.
        aligned_height: P.
        aligned_width: Q.
        spatial_scale: Pixels of the map per pixel of the image.
        sampling_ratio: g and k; 0 for as many as a bin has pixels.
        pool_mode: ``MAX`` or ``AVERAGE``.
        aligned: Whether pixel 0's centre is at 0.5.

    Raises:
        ValueError: ``aligned``, and a RoI on the CPU ends before it begins.
    """
    if rois.shape[0] == 0:
        return
    bins, size = (aligned_height, aligned_width), input.shape[2:]
    vision = torchvision_operator('roi_align', input.device) if pool_mode == AVERAGE else None
    if vision is not None:
        output.copy_(vision(input, rois, spatial_scale, *bins, sampling_ratio, aligned))
        return
    table = table_of(input)
    for grid in _grids(rois, bins, spatial_scale, sampling_ratio, aligned):
        if pool_mode == MAX:
            values, y, x = _largest(table, grid, size)
            argmax_y[grid.chosen], argmax_x[grid.chosen] = (_to_maps(each, bins, input) for each in (y, x))
        else:
            values = sum_rows(table, *_average_terms(grid, size))
        output[grid.chosen] = _to_maps(values, bins, input)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Adds the gradient of ``roi_align_forward`` by its input to ``grad_input``; the other arguments are the same.

    Args:
        grad_output: (N, C, P, Q).
        rois: (N, 5).
        argmax_y: As ``roi_align_forward`` wrote it.
        argmax_x: As ``roi_align_forward`` wrote it.
        grad_input: (B, C, H, W), zeros; written.
        aligned_height: P.
        aligned_width: Q.
        spatial_scale: As for ``roi_align_forward``.
        sampling_ratio: As for ``roi_align_forward``.
        pool_mode: ``MAX`` or ``AVERAGE``.
        aligned: As for ``roi_align_forward``.
    """
    if rois.shape[0] == 0:
        return
    images, channels, *size = grad_input.shape
    bins = aligned_height, aligned_width
    vision = torchvision_operator('_roi_align_backward', rois.device) if pool_mode == AVERAGE else None
    if vision is not None:
        grad_input += vision(grad_output, rois, spatial_scale, *bins, *grad_input.shape, sampling_ratio, aligned)
        return
    total = full_precision(grad_input).new_zeros(images * size[0] * size[1], channels)
    if pool_mode == MAX:
        total = _scatter_largest(full_precision(grad_output), rois, argmax_y, argmax_x, size, total)
    else:
        for grid in _grids(rois, bins, spatial_scale, sampling_ratio, aligned):
            grad = full_precision(grad_output[grid.chosen]).permute(0, 2, 3, 1).flatten(0, 2)  # (n * P * Q, C)
            add_table_grad(total, grad, *_average_terms(grid, size))
    add_to_map(grad_input, total)


class _Grid(NamedTuple):
    """The samples of some RoIs.

    Attributes:
        chosen: (n,), which RoIs.
        image: (n,), int64.
        y: (n, P, g), rows of the samples in pixels of the map; those past a RoI's own number are not real.
        x: (n, Q, k), columns.
        real_y: (n, 1, g), bool.
        real_x: (n, 1, k), bool.
        count: (n,), samples of a bin, 1 or more.
    """

    chosen: Tensor
    image: Tensor
    y: Tensor
    x: Tensor
    real_y: Tensor
    real_x: Tensor
    count: Tensor


def _grids(
    rois: Tensor, bins: tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool
) -> Iterator[_Grid]:
    """Yields the samples of all RoIs, some RoIs at a time."""
    rois = full_precision(rois)
    start = rois[:, [2, 1]] * spatial_scale - (0.5 if aligned else 0.0)  # (N, 2), y and x
    extent = rois[:, [4, 3]] * spatial_scale - (0.5 if aligned else 0.0) - start
    if not aligned:
        extent = extent.clamp(min=1.0)
    step = extent / extent.new_tensor(bins)
    counts = step.ceil().long().clamp(min=0)  # (N, 2)
    if sampling_ratio > 0:
        counts = torch.full_like(counts, sampling_ratio)

    host = counts.cpu()
    if aligned and rois.device.type == 'cpu' and bool((extent < 0).any()):
        wrong = int((extent < 0).any(1).nonzero()[0])
        raise ValueError(
            f'RoIAlign expects x1 <= x2 and y1 <= y2, but RoI {wrong} is {rois[wrong, 1:].tolist()}; '
            'clip or drop such boxes before'
        )
    order = host.prod(1).argsort()
    host = host[order]
    limit = terms_at_once(rois.device)
    first = 0
    while first < len(order):
        last = _block_end(host, first, limit // (4 * bins[0] * bins[1]))
        chosen = order[first:last].to(rois.device)
        most = host[first:last].amax(0).tolist()
        axes = [_axis(start[chosen, i], step[chosen, i], counts[chosen, i], most[i], bins[i]) for i in range(2)]
        yield _Grid(
            chosen=chosen,
            image=rois[chosen, 0].long(),
            y=axes[0][0],
            x=axes[1][0],
            real_y=axes[0][1],
            real_x=axes[1][1],
            count=counts[chosen].prod(1).clamp(min=1),
        )
        first = last


def _block_end(counts: Tensor, first: int, limit: int) -> int:
    """Finds how many RoIs from ``first`` on have at most ``limit`` samples a bin, all of them on the widest grid."""
    most = counts[first:].cummax(0).values.prod(1)
    used = most * torch.arange(1, len(most) + 1)
    return first + max(1, int(torch.searchsorted(used, limit, right=True)))


def _axis(start: Tensor, step: Tensor, count: Tensor, most: int, bins: int) -> tuple[Tensor, Tensor]:
    """Places the samples of an axis, (n, bins, most), and says which are real, (n, 1, most)."""
    number = torch.arange(most, device=start.device, dtype=start.dtype)
    offset = torch.arange(bins, device=start.device, dtype=start.dtype)
    start, step, count = (each[:, None, None] for each in (start, step, count))
    position = start + offset[:, None] * step + (number + 0.5) * step / count.clamp(min=1)
    return position, number < count


def _taps(position: Tensor, real: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Finds the two pixels of each position along an axis, and their weights.

    Returns:
        Pixel, int64, and weight, each (n, bins, samples, 2).
    """
    inside = real & (position >= -1) & (position <= size)
    place = position.clamp(0, size - 1)
    low = place.floor()
    high = place - low
    pixel = low.long()
    weight = torch.stack([1 - high, high], -1).masked_fill_(~inside[..., None], 0)
    return torch.stack([pixel, (pixel + 1).clamp_(max=size - 1)], -1), weight


def _average_terms(grid: _Grid, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns, for each bin, rows of the table and weights, each (n * P * Q, 4 * g * k)."""
    y, weight_y = (each.flatten(2) for each in _taps(grid.y, grid.real_y, size[0]))  # (n, P, 2 * g)
    x, weight_x = (each.flatten(2) for each in _taps(grid.x, grid.real_x, size[1]))
    weight_y = weight_y / grid.count[:, None, None]
    row = (grid.image[:, None, None] * size[0] + y) * size[1]
    index = row[:, :, None, :, None] + x[:, None, :, None, :]  # (n, P, Q, 2 * g, 2 * k)
    weight = weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]
    return index.flatten(3).flatten(0, 2), weight.flatten(3).flatten(0, 2)


def _largest(table: Tensor, grid: _Grid, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the largest sample of each bin, its y and its x, each (n * P * Q, C)."""
    y, weight_y = _taps(grid.y, grid.real_y, size[0])  # (n, P, g, 2)
    x, weight_x = _taps(grid.x, grid.real_x, size[1])
    row = (grid.image[:, None, None, None] * size[0] + y) * size[1]
    index = row[:, :, None, :, None, :, None] + x[:, None, :, None, :, None, :]  # (n, P, Q, g, k, 2, 2)
    weight = weight_y[:, :, None, :, None, :, None] * weight_x[:, None, :, None, :, None, :]
    shape = index.shape[:5]
    samples = sum_rows(table, index.reshape(-1, 4), weight.reshape(-1, 4)).view(*shape, table.shape[1])
    real = grid.real_y[:, :, None, :, None] & grid.real_x[:, None, :, None, :]  # (n, 1, 1, g, k)
    samples = samples.masked_fill(~real[..., None], -torch.inf).flatten(3, 4).flatten(0, 2)  # (n * P * Q, g * k, C)
    # mmcv's kernels start from -10000 and no place, which is what a bin without samples keeps.
    floor = samples.new_full((samples.shape[0], 1, samples.shape[2]), -10000.0)
    values, place = torch.cat([floor, samples], 1).max(1)
    positions = []
    for axis in (grid.y[:, :, None, :, None], grid.x[:, None, :, None, :]):
        position = axis.expand(shape).flatten(3).flatten(0, 2)
        position = torch.cat([position.new_full((len(position), 1), -1.0), position], 1)
        positions.append(position.gather(1, place))
    return values, *positions


def _scatter_largest(
    grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, size: tuple[int, int], total: Tensor
) -> Tensor:
    """Adds the gradient of each bin at the four pixels around its largest sample."""
    real = argmax_y != -1
    y, weight_y = _taps(full_precision(argmax_y).flatten(2), real.flatten(2), size[0])  # (N, C, P * Q, 2)
    x, weight_x = _taps(full_precision(argmax_x).flatten(2), real.flatten(2), size[1])
    image = rois[:, 0].long()[:, None, None, None]
    index = ((image * size[0] + y) * size[1])[..., :, None] + x[..., None, :]
    channel = torch.arange(total.shape[1], device=total.device)[:, None, None, None]
    weight = weight_y[..., :, None] * weight_x[..., None, :] * grad_output.flatten(2)[..., None, None]
    return total.flatten().index_add(0, (index * total.shape[1] + channel).flatten(), weight.flatten()).view_as(total)


def _to_maps(values: Tensor, bins: tuple[int, int], like: Tensor) -> Tensor:
    return values.view(-1, *bins, values.shape[1]).permute(0, 3, 1, 2).to(like.dtype)
