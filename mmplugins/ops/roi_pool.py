"""RoIPool with mmcv's arguments: the largest pixel of each bin.

Paper: Girshick, Fast R-CNN, ICCV 2015, section 2.1. The bins' edges are those of mmcv's kernel
(``ops/csrc/common/cuda/roi_pool_cuda_kernel.cuh``): rounded outwards, a pixel's width added to a box. Difference: a box
that ends before it begins has no gradient; the kernel's goes to the first pixel.

Letters: N RoIs, B images, C channels, H W size of the map, P Q bins along y and x.
"""

import torch
from torch import Tensor

from mmplugins.functional.device import full_precision

from .rows import terms_at_once
from .tables import table_of


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Pools features of RoIs, as mmcv's operator of this name.

    Args:
        input: (B, C, H, W), floating.
        rois: (N, 5), index of the image, then x1, y1, x2, y2 in pixels of the image, x2 and y2 within the box.
        output: (N, C, P, Q); written, 0 where a bin is empty.
        argmax: (N, C, P, Q), int32, row times W plus column of the largest pixel, -1 where a bin is empty; written.
        pooled_height: P.
        pooled_width: Q.
        spatial_scale: Pixels of the map per pixel of the image.
    """
    if rois.shape[0] == 0:
        return
    channels, *size = input.shape[1:]
    bins = pooled_height, pooled_width
    rois = full_precision(rois)
    start = rois[:, [2, 1]] * spatial_scale  # (N, 2), y and x
    extent = (rois[:, [4, 3]] + 1) * spatial_scale - start
    image = rois[:, 0].long()
    firsts, lasts = zip(*(_edges(start[:, i], extent[:, i] / bins[i], bins[i], size[i]) for i in range(2)), strict=True)
    drawn = (extent > 0).all(1)
    widest = [(last - first).clamp(min=0) for first, last in zip(firsts, lasts, strict=True)]
    host = torch.stack([axis.amax(1) for axis in widest], 1).cpu()  # (N, 2), pixels of the largest bin
    order = host.prod(1).argsort()
    host, table = host[order], table_of(input)
    limit = terms_at_once(input.device) // 16  # each pixel is a row of the table, not one number
    begin = 0
    while begin < len(order):
        most = host[begin:].cummax(0).values.prod(1) * bins[0] * bins[1]
        used = most * torch.arange(1, len(most) + 1)
        end = begin + max(1, int(torch.searchsorted(used, limit, right=True)))
        chosen = order[begin:end].to(rois.device)
        shape = host[begin:end].amax(0).clamp(min=1).tolist()
        pixel, inside = _pixels([f[chosen] for f in firsts], [last[chosen] for last in lasts], shape, size[1])
        inside &= drawn[chosen][:, None, None, None]
        rows = image[chosen][:, None, None, None] * (size[0] * size[1]) + pixel
        values = table.index_select(0, rows.flatten()).view(*rows.shape, channels)
        values, place = values.masked_fill_(~inside[..., None], -torch.inf).max(3)  # (n, P, Q, C)
        empty = ~inside.any(3)[..., None]
        output[chosen] = values.masked_fill(empty, 0).permute(0, 3, 1, 2).to(output.dtype)
        found = pixel[:, :, :, None].expand(*pixel.shape[:3], channels, -1).gather(4, place[..., None])[..., 0]
        argmax[chosen] = found.masked_fill(empty, -1).permute(0, 3, 1, 2).to(argmax.dtype)
        begin = end


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Adds the gradient of ``roi_pool_forward`` by its input to ``grad_input``.

    Args:
        grad_output: (N, C, P, Q).
        rois: (N, 5).
        argmax: (N, C, P, Q), as ``roi_pool_forward`` wrote it.
        grad_input: (B, C, H, W), zeros; written.
        pooled_height: P.
        pooled_width: Q.
        spatial_scale: As for ``roi_pool_forward``.
    """
    if rois.shape[0] == 0:
        return
    channels, height, width = grad_input.shape[1:]
    image = rois[:, 0].long()[:, None, None, None]
    channel = torch.arange(channels, device=rois.device)[:, None, None]
    place = (image * channels + channel) * (height * width) + argmax
    grad = full_precision(grad_output).masked_fill(argmax < 0, 0)
    total = grad.new_zeros(grad_input.numel()).index_add(0, place.clamp(min=0).flatten(), grad.flatten())
    grad_input += total.view(grad_input.shape).to(grad_input.dtype)


def _edges(start: Tensor, step: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """Returns the first pixel of each bin of an axis and the one after the last, each (N, bins), int64."""
    number = torch.arange(bins, device=start.device, dtype=start.dtype)
    first = (number * step[:, None] + start[:, None]).floor()
    last = ((number + 1) * step[:, None] + start[:, None]).ceil()
    return first.clamp(0, size).long(), last.clamp(0, size).long()


def _pixels(firsts: list[Tensor], lasts: list[Tensor], shape: list[int], width: int) -> tuple[Tensor, Tensor]:
    """Lists the pixels of each bin row by row, (n, P, Q, K), and says which are inside."""
    axes = []
    for first, last, most in zip(firsts, lasts, shape, strict=True):
        place = first[..., None] + torch.arange(most, device=first.device)  # (n, bins, most)
        axes.append((place, place < last[..., None]))
    (y, in_y), (x, in_x) = axes
    inside = in_y[:, :, None, :, None] & in_x[:, None, :, None, :]
    pixel = y[:, :, None, :, None] * width + x[:, None, :, None, :]
    return (pixel * inside).flatten(3), inside.flatten(3)
