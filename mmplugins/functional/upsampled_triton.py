"""Cross entropy of logits that stand for their upsampling, and its gradient at low resolution, as Triton kernels.

They serve CUDA, see ``triton_serves``; elsewhere, and without Triton, blocks of rows do (``upsampled.py``). They have
not yet run on a GPU: tests run them on Triton's interpreter, and compile them for one.

Four neighbouring logits span a cell, and every pixel between them is a mixture of these four. A program takes a tile of
a cell's pixels, loads the four logits of some classes at a time, and goes through all classes once for the softmax and
once for the gradient, so that nothing of N x C x H x W is ever stored. What the tile adds to the gradients of the four
is summed up in the program and written to a place of its own: nothing is added atomically, and results repeat bit by
bit. Beyond the edge of the map there are cells too, from -1/2 to 0 and from the last logit on: h + 1 of them by w + 1.

Letters: N images, C classes, h w size of the logits, H W of the labels, P pixels of a tile.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mmplugins.functional.device import on_device_of, upload
from mmplugins.functional.upsampled import UpsampledLogits, two_neighbours

try:
    import triton
    import triton.language as tl
    from triton.language import constexpr
except ImportError:  # the module can be read, and nothing calls it
    triton, constexpr = None, int

_TILE = 16  # most rows and columns of a tile
_TILE_ELEMENTS = 1024  # pixels times classes that a program holds
_ELEMENTS = 1 << 24  # of the sums of tiles that are held at a time; at least an image's


def _jit(function: Callable) -> Callable:
    return function if triton is None else triton.jit(function)


def pixel_losses(logits: UpsampledLogits, label: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Computes the cross entropy of each pixel.

    Args:
        logits: Shape (N, C, H, W), float32 or float64, not empty.
        label: int64, shape (N, H, W), each value a class or ``ignore_index``.
        ignore_index: Label of pixels that are not valid; their loss is 0.

    Returns:
        The losses, and what ``pixel_gradient`` takes: the logarithm of the softmax's denominator, less the same number
        as the upsampled logits of ``over_blocks``; (N, H, W) each.
    """
    plan = _Plan.of(logits)
    loss, log_sum = (torch.empty(label.shape, dtype=logits.dtype, device=logits.device) for _ in range(2))
    plan.launch(_loss_kernel, slice(None), label.contiguous(), loss, log_sum, ignore_index)
    return loss, log_sum


def pixel_gradient(
    logits: UpsampledLogits, label: Tensor, ignore_index: int, log_sum: Tensor, factor: Tensor
) -> Tensor:
    """Computes the gradient of the sum of the pixels' losses times their factors.

    Args:
        logits: Shape (N, C, H, W).
        label: int64, shape (N, H, W).
        ignore_index: Label of pixels that are not valid.
        log_sum: What ``pixel_losses`` returned, (N, H, W).
        factor: Shape (N, H, W).

    Returns:
        Gradient to the logits, (N, C, h, w).
    """
    plan = _Plan.of(logits)
    label, log_sum, factor = label.contiguous(), log_sum.contiguous(), factor.to(logits.dtype).contiguous()
    grad = torch.empty_like(logits.logits)
    for images in plan.groups():
        corners = plan.corners(images)
        plan.launch(_gradient_kernel, images, label[images], log_sum[images], factor[images], corners, ignore_index)
        grad[images] = plan.gather(corners)
    return grad


def summed_losses(
    logits: UpsampledLogits, label: Tensor, ignore_index: int, share: Tensor | None, with_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Computes the sum of the cross entropy over the valid pixels, and its gradient with it.

    Args:
        logits: Shape (N, C, H, W), float32 or float64, not empty.
        label: int64, shape (N, H, W).
        ignore_index: Label of pixels that are not valid.
        share: Factor of each pixel, shape (N, H, W), or None.
        with_grad: Whether to compute the gradient.

    Returns:
        The sum, a float64 scalar; the gradient to the logits, (N, C, h, w), or None.
    """
    plan = _Plan.of(logits)
    label = label.contiguous()
    share = None if share is None else share.to(logits.dtype).contiguous()
    sums = logits.logits.new_empty(len(logits), *plan.tiles)
    grad = torch.empty_like(logits.logits) if with_grad else None
    for images in plan.groups() if with_grad else [slice(None)]:
        factor = label if share is None else share[images]  # not read where there is no share
        corners = plan.corners(images) if with_grad else sums
        flags = {'HAS_SHARE': share is not None, 'WITH_GRAD': with_grad}
        plan.launch(_sum_kernel, images, label[images], factor, sums[images], corners, ignore_index, **flags)
        if with_grad:
            grad[images] = plan.gather(corners)
    return sums.sum(dtype=torch.float64), grad


def correct_pixels(logits: UpsampledLogits, label: Tensor, ignore_index: int) -> Tensor:
    """Counts the valid pixels whose class has the largest logit, as ``count_correct`` does; an int64 scalar.

    Args:
        logits: Shape (N, C, H, W), float32 or float64, not empty.
        label: int64, shape (N, H, W).
        ignore_index: Label of pixels that are not valid.
    """
    plan = _Plan.of(logits)
    counts = label.new_empty((len(logits), *plan.tiles), dtype=torch.int32)
    plan.launch(_correct_kernel, slice(None), label.contiguous(), counts, ignore_index)
    return counts.sum()


class _Axis(NamedTuple):
    """What of an axis belongs to which cell.

    Attributes:
        first: The first pixel of each cell, and the end, int32 (cells + 1,).
        fraction: How far each pixel lies from the first to the second logit of its cell, (pixels,).
        tile: Pixels of a tile, a power of two.
        pieces: Tiles of a cell.
    """

    first: Tensor
    fraction: Tensor
    tile: int
    pieces: int

    @classmethod
    def of(cls, size: int, full: int, like: Tensor, align_corners: bool) -> '_Axis':
        before, after, fraction = two_neighbours(size, full, like.dtype, align_corners)
        edge = after == 0  # what lies before the first logit, or on it, is wholly of the second logit of cell 0
        cell = torch.where(edge, 0, before + 1)
        first = torch.searchsorted(cell, torch.arange(size + 2, device='cpu')).int()
        longest = int(first.diff().max())
        tile = min(_TILE, 1 << max(longest - 1, 0).bit_length())
        tables = upload(first, like.device), upload(torch.where(edge, 1, fraction), like.device)
        return cls(*tables, tile, -(-longest // tile))


class _Plan(NamedTuple):
    """How the work is cut into tiles.

    Attributes:
        maps: The logits less the largest of each place, (N, h, w, C); see ``over_blocks`` why.
        size: H, W.
        rows: The axis of the rows.
        columns: The axis of the columns.
    """

    maps: Tensor
    size: tuple[int, int]
    rows: _Axis
    columns: _Axis

    @classmethod
    def of(cls, logits: UpsampledLogits) -> '_Plan':
        low = logits.logits.detach()
        maps = (low - low.amax(1, keepdim=True)).permute(0, 2, 3, 1).contiguous()
        axes = zip(low.shape[2:], logits.size, strict=True)
        return cls(maps, logits.size, *(_Axis.of(*axis, low, logits.align_corners) for axis in axes))

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        height, width = self.maps.shape[1:3]
        return (height + 1) * self.rows.pieces, (width + 1) * self.columns.pieces

    def groups(self) -> list[slice]:
        """Cuts the images into groups whose sums are held at a time."""
        rows, columns = self.tiles
        step = max(1, _ELEMENTS // (rows * columns * 4 * self.maps.shape[3]))
        return [slice(start, start + step) for start in range(0, len(self.maps), step)]

    def corners(self, images: slice) -> Tensor:
        """Makes what the kernels write their sums to, (n, rows of tiles, columns of tiles, 4, C)."""
        return self.maps.new_empty(len(self.maps[images]), *self.tiles, 4, self.maps.shape[3])

    def gather(self, corners: Tensor) -> Tensor:
        """Adds up the sums of the tiles around each logit, (n, C, h, w)."""
        pieces = self.rows.pieces, self.columns.pieces
        if pieces != (1, 1):
            cells = corners.unflatten(2, (-1, pieces[1])).unflatten(1, (-1, pieces[0]))
            corners = cells.sum((2, 4))  # (n, h + 1, w + 1, 4, C)
        near_near, near_far, far_near, far_far = corners.unbind(3)
        grad = near_near[:, 1:, 1:] + near_far[:, 1:, :-1]
        return grad.add_(far_near[:, :-1, 1:]).add_(far_far[:, :-1, :-1]).permute(0, 3, 1, 2)

    def launch(self, kernel: Callable, images: slice, *arguments: Tensor | int, **flags: bool) -> None:
        """Runs a kernel on some images; its first and last arguments are the plan's."""
        maps = self.maps[images]
        _, height, width, classes = maps.shape
        rows, columns = self.rows, self.columns
        pixels = rows.tile * columns.tile
        block = min(1 << (classes - 1).bit_length(), max(_TILE_ELEMENTS // pixels, 1))
        grid = (*reversed(self.tiles), len(maps))
        tables = rows.first, columns.first, rows.fraction, columns.fraction
        sizes = height, width, *self.size, rows.pieces, columns.pieces, classes
        tile = {'ROWS': rows.tile, 'COLUMNS': columns.tile, 'BLOCK': block}
        with on_device_of(maps):
            kernel[grid](
                maps, *arguments, *tables, *sizes, **tile, **flags, num_warps=min(max(pixels * block // 256, 1), 4)
            )


# Kernels. Program ids are (column of tiles, row of tiles, image). All maps are contiguous.


@_jit
def _place(
    first_row, first_column, row_fraction, column_fraction,
    height, width, full_height, full_width, row_pieces, column_pieces, classes,
    ROWS: constexpr, COLUMNS: constexpr,
):  # fmt: skip
    """Finds the pixels of a program's tile.

    Returns:
        For each pixel its place in a map (N, H, W), whether there is one, and its fractions, (P,) each; then the place
        of the cell's first logit in a map (N, h, w, C), and how far from it the next column's and row's are.
    """
    image = tl.program_id(2).to(tl.int64)
    row, column = tl.program_id(1) // row_pieces, tl.program_id(0) // column_pieces  # of the cell
    p = tl.arange(0, ROWS * COLUMNS)
    y = tl.load(first_row + row) + tl.program_id(1) % row_pieces * ROWS + p // COLUMNS
    x = tl.load(first_column + column) + tl.program_id(0) % column_pieces * COLUMNS + p % COLUMNS
    inside = (y < tl.load(first_row + row + 1)) & (x < tl.load(first_column + column + 1))
    down = tl.load(row_fraction + y, mask=inside, other=0.0)
    right = tl.load(column_fraction + x, mask=inside, other=0.0)
    pixel = (image * full_height + y) * full_width + x
    near_row, near_column = tl.maximum(row - 1, 0), tl.maximum(column - 1, 0)
    corner = ((image * height + near_row) * width + near_column) * classes
    next_column = (tl.minimum(column, width - 1) - near_column) * classes
    next_row = (tl.minimum(row, height - 1) - near_row) * width * classes
    return pixel, inside, down, right, corner, next_column, next_row


@_jit
def _upsampled(maps, corner, next_column, next_row, down, right, c, classes):
    """Upsamples some classes' logits at the pixels of a tile, (P, classes); 0 for what is no class."""
    place, exists = maps + corner + c, c < classes
    near_near = tl.load(place, mask=exists, other=0.0)[None, :]
    near_far = tl.load(place + next_column, mask=exists, other=0.0)[None, :]
    far_near = tl.load(place + next_row, mask=exists, other=0.0)[None, :]
    far_far = tl.load(place + next_row + next_column, mask=exists, other=0.0)[None, :]
    down, right = down[:, None], right[:, None]
    near = near_near * (1 - right) + near_far * right
    far = far_near * (1 - right) + far_far * right
    return near * (1 - down) + far * down


@_jit
def _softmax_parts(maps, corner, next_column, next_row, down, right, index, classes, BLOCK: constexpr):
    """Returns the largest logit, the sum of the exponentials less it, and the true class's logit, (P,) each."""
    top = tl.full(down.shape, float('-inf'), down.dtype)
    total, true = tl.zeros(down.shape, down.dtype), tl.zeros(down.shape, down.dtype)
    for start in range(0, classes, BLOCK):
        c = start + tl.arange(0, BLOCK)
        x = _upsampled(maps, corner, next_column, next_row, down, right, c, classes)
        true += tl.sum(tl.where(c[None, :] == index[:, None], x, 0.0), 1)
        x = tl.where((c < classes)[None, :], x, float('-inf'))
        larger = tl.maximum(top, tl.max(x, 1))
        total = total * tl.exp(top - larger) + tl.sum(tl.exp(x - larger[:, None]), 1)
        top = larger
    return top, total, true


@_jit
def _write_gradient(
    maps, corner, next_column, next_row, down, right, index, part, log_sum, corners, classes, BLOCK: constexpr
):
    """Writes what a tile adds to the gradients of its cell's four logits: part (softmax - [true class]), mixed back."""
    tile = (tl.program_id(2).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0)
    out = corners + (tile + tl.program_id(0)) * 4 * classes
    down_, right_ = down[:, None], right[:, None]
    for start in range(0, classes, BLOCK):
        c = start + tl.arange(0, BLOCK)
        x = _upsampled(maps, corner, next_column, next_row, down, right, c, classes)
        true = tl.where(c[None, :] == index[:, None], 1.0, 0.0)
        field = part[:, None] * (tl.exp(x - log_sum[:, None]) - true)
        near, far = field * (1 - down_), field * down_
        exists = c < classes
        tl.store(out + c, tl.sum(near * (1 - right_), 0), mask=exists)
        tl.store(out + classes + c, tl.sum(near * right_, 0), mask=exists)
        tl.store(out + 2 * classes + c, tl.sum(far * (1 - right_), 0), mask=exists)
        tl.store(out + 3 * classes + c, tl.sum(far * right_, 0), mask=exists)


@_jit
def _loss_kernel(
    maps, label, loss, log_sum, ignore_index,
    first_row, first_column, row_fraction, column_fraction,
    height, width, full_height, full_width, row_pieces, column_pieces, classes,
    ROWS: constexpr, COLUMNS: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Writes the loss of each pixel and the logarithm of its softmax's denominator."""
    pixel, inside, down, right, corner, next_column, next_row = _place(
        first_row, first_column, row_fraction, column_fraction,
        height, width, full_height, full_width, row_pieces, column_pieces, classes, ROWS, COLUMNS,
    )  # fmt: skip
    index = tl.load(label + pixel, mask=inside, other=ignore_index)
    top, total, true = _softmax_parts(maps, corner, next_column, next_row, down, right, index, classes, BLOCK)
    log_total = tl.log(total)
    tl.store(loss + pixel, tl.where(index == ignore_index, 0.0, log_total + (top - true)), mask=inside)
    tl.store(log_sum + pixel, log_total + top, mask=inside)


@_jit
def _gradient_kernel(
    maps, label, log_sum, factor, corners, ignore_index,
    first_row, first_column, row_fraction, column_fraction,
    height, width, full_height, full_width, row_pieces, column_pieces, classes,
    ROWS: constexpr, COLUMNS: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Writes the gradients of the pixels' losses times their factors."""
    pixel, inside, down, right, corner, next_column, next_row = _place(
        first_row, first_column, row_fraction, column_fraction,
        height, width, full_height, full_width, row_pieces, column_pieces, classes, ROWS, COLUMNS,
    )  # fmt: skip
    index = tl.load(label + pixel, mask=inside, other=ignore_index)
    part = tl.load(factor + pixel, mask=index != ignore_index, other=0.0)
    denominator = tl.load(log_sum + pixel, mask=inside, other=0.0)
    _write_gradient(maps, corner, next_column, next_row, down, right, index, part, denominator, corners, classes, BLOCK)


@_jit
def _sum_kernel(
    maps, label, share, sums, corners, ignore_index,
    first_row, first_column, row_fraction, column_fraction,
    height, width, full_height, full_width, row_pieces, column_pieces, classes,
    ROWS: constexpr, COLUMNS: constexpr, BLOCK: constexpr,
    HAS_SHARE: constexpr, WITH_GRAD: constexpr,
):  # fmt: skip
    """Writes the sum of the losses of a tile and, if it is asked for, their gradients."""
    pixel, inside, down, right, corner, next_column, next_row = _place(
        first_row, first_column, row_fraction, column_fraction,
        height, width, full_height, full_width, row_pieces, column_pieces, classes, ROWS, COLUMNS,
    )  # fmt: skip
    index = tl.load(label + pixel, mask=inside, other=ignore_index)
    valid = index != ignore_index
    if HAS_SHARE:
        part = tl.load(share + pixel, mask=valid, other=0.0)
    else:
        part = tl.where(valid, tl.full(down.shape, 1.0, down.dtype), 0.0)
    top, total, true = _softmax_parts(maps, corner, next_column, next_row, down, right, index, classes, BLOCK)
    log_total = tl.log(total)
    tile = (tl.program_id(2).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0)
    loss = tl.where(valid, log_total + (top - true), 0.0) * part
    tl.store(sums + tile + tl.program_id(0), tl.sum(loss, 0))
    if WITH_GRAD:
        _write_gradient(
            maps, corner, next_column, next_row, down, right, index, part, log_total + top, corners, classes, BLOCK
        )


@_jit
def _correct_kernel(
    maps, label, counts, ignore_index,
    first_row, first_column, row_fraction, column_fraction,
    height, width, full_height, full_width, row_pieces, column_pieces, classes,
    ROWS: constexpr, COLUMNS: constexpr, BLOCK: constexpr,
):  # fmt: skip
    """Writes how many pixels of a tile are right."""
    pixel, inside, down, right, corner, next_column, next_row = _place(
        first_row, first_column, row_fraction, column_fraction,
        height, width, full_height, full_width, row_pieces, column_pieces, classes, ROWS, COLUMNS,
    )  # fmt: skip
    index = tl.load(label + pixel, mask=inside, other=ignore_index)
    top, total, true = _softmax_parts(maps, corner, next_column, next_row, down, right, index, classes, BLOCK)
    correct = (index != ignore_index) & (index >= 0) & (index < classes) & (true == top) & (total == total)
    tile = (tl.program_id(2).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0)
    tl.store(counts + tile + tl.program_id(0), tl.sum(correct.to(tl.int32), 0))
