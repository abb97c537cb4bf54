"""The mask losses' own kernels for the CPU; ``cpu_kernels`` in ``device.py`` chooses between them and the plain path.

What they have in common is that they work on pieces that fit the processor's cache.

- A mask is packed to be sampled: each byte holds, as bits, the pixels to the upper left, upper right, lower left and
  lower right of a corner between four pixels, with zeros around the mask. A point then costs one gather instead of four
  and needs no test whether a pixel is outside.
- Points are sorted by the pixel that they fall on.

Letters: G masks, H W their size, P points, M rows of points.
"""

import numpy as np
import torch
from torch import Tensor

from mmplugins.functional.device import cpu_kernels, empty_buffer

_EXACT = 1 << 24  # integers below it are exact in float32
_WORTH_PACKING = 128  # pixels that are packed in the time that it saves on one point
_POINTS = 1 << 16  # points worked on at once, so that the dozen arrays of them stay in the cache
ALL = 15  # the byte of four pixels of the foreground
_SMALL = 1 << 18  # pixels of all masks of an image up to which they are worked on together
_MINUS_ONE, _MINUS_HALF = (torch.tensor(value, device='cpu') for value in (-1.0, -0.5))  # a scalar costs as a sum does


def pixel_position(coordinate: Tensor, size: int) -> Tensor:
    """Converts a coordinate, 0 to 1, to pixels, pixel i at i; what is more than a pixel outside is moved there.

    It is computed as ``grid_sample`` does, rounding included: half a unit in the last place of a position far from
    the origin would move the value between two pixels.

    Args:
        coordinate: Floating, any shape.
        size: Of the map along this axis, in pixels.

    Returns:
        Position, -1 to ``size``, a new tensor of the same shape.
    """
    grid = torch.add(_MINUS_ONE, coordinate, alpha=2).add_(1)
    return torch.add(_MINUS_HALF, grid, alpha=size / 2).clamp_(-1, size)


def to_grid(points: Tensor) -> Tensor:
    """Converts points x,y in 0 to 1 to the -1 to 1 of ``grid_sample``."""
    return torch.add(_MINUS_ONE, points, alpha=2)


def sort_points(points: Tensor, height: int, width: int) -> Tensor:
    """Brings points into the order of the pixels that they fall on.

    Args:
        points: x,y in 0 to 1, shape (..., P, 2), x and y apart in memory.
        height: Of what will be sampled, in pixels.
        width: Of what will be sampled, in pixels.

    Returns:
        The same points of each row, in another order; on the plain path in the same one.
    """
    if not cpu_kernels(points):
        return points
    pixel = torch.add(points[..., 0] * width, (points[..., 1] * height).floor_(), alpha=width).int()
    order = torch.from_numpy(np.argsort(pixel.numpy(), -1))
    return torch.stack([coordinate.gather(-1, order) for coordinate in points.unbind(-1)]).movedim(0, -1)


def smallest(values: Tensor, count: int) -> Tensor:
    """Returns the indices of the smallest values of each row, (N, count), in any order; values are not negative."""
    if not cpu_kernels(values) or not 0 < count < values.shape[1]:
        return values.topk(count, dim=1, largest=False, sorted=False).indices
    bits = torch.int32 if values.dtype == torch.float32 else torch.int64  # not negative: ordered as their bits are
    return torch.from_numpy(np.argpartition(values.view(bits).numpy(), count - 1, axis=1)[:, :count])  # by AVX-512


class PackedMasks:
    """Interpolates the masks of an image at points; each mask is packed once for the rows that follow one another.

    Args:
        masks: bool or integer (0 is background), shape (G, H, W).
    """

    def __init__(self, masks: Tensor) -> None:
        self.masks = masks
        self.size = masks.shape[1:]
        self._last: tuple[int, Tensor] | None = None
        self._all = pack(masks) if masks.numel() <= _SMALL else None

    @staticmethod
    def serves(masks: Tensor, num_points: int) -> bool:
        """Whether masks can be packed, and are worth it for that many points of each."""
        return (
            cpu_kernels(masks)
            and not masks.is_floating_point()
            and num_points * _WORTH_PACKING >= masks.shape[1:].numel()
        )

    def shared_corners(self, points: Tensor) -> Tensor:
        """Reads what is around the same points, x,y in 0 to 1, (P, 2), in all masks; returns a byte each, (G, P)."""
        corner = locate(points, *self.size)[0]
        found = empty_buffer((len(self.masks), len(points)), torch.uint8, points.device)
        for mask, row in enumerate(found):
            torch.index_select(self._packed(mask), 0, corner, out=row)
        return found

    def sample_rows(self, points: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Samples each row of points in its mask.

        Args:
            points: x,y in 0 to 1, (M, P, 2).
            index: Mask of each row, (M,); None: row i is for mask i.

        Returns:
            Values, (M, P), and the bytes that they are made of, see ``between_pixels``, uint8 (M, P).
        """
        values, found = points.new_empty(points.shape[:2]), torch.empty(points.shape[:2], dtype=torch.uint8)
        masks = list(range(len(points))) if index is None else index.tolist()
        order = sorted(range(len(masks)), key=masks.__getitem__)
        step = max(1, _POINTS // max(points.shape[1], 1))
        for start in range(0, len(order), step):
            rows = order[start : start + step]
            whole = rows[-1] - rows[0] == len(rows) - 1 and rows == sorted(rows)
            part = slice(rows[0], rows[-1] + 1) if whole else rows
            corner, right, down = locate(points[part].flatten(0, 1), *self.size)
            read = torch.empty(len(rows), points.shape[1], dtype=torch.uint8)
            for row, line, place in zip(rows, read, corner.view(read.shape), strict=True):
                torch.index_select(self._packed(masks[row]), 0, place, out=line)
            found[part], values[part] = read, between_pixels(read.flatten(), right, down).view(read.shape)
        return values, found

    def _packed(self, mask: int) -> Tensor:
        """Returns a mask packed, flattened; the last one is remembered."""
        if self._all is not None:
            return self._all[mask].flatten()
        if self._last is None or self._last[0] != mask:
            self._last = (mask, pack(self.masks[mask]).flatten())
        return self._last[1]


def pack(masks: Tensor) -> Tensor:
    """Packs masks, bool or integer (..., H, W): uint8 (..., H + 2, W + 2), a byte for each corner, see the module."""
    *number, height, width = masks.shape
    pixels = (masks if masks.dtype == torch.bool else masks != 0).view(torch.uint8)
    wide = pixels.new_zeros(*number, height + 2, width + 2)  # the last row and column are for points at the far edge
    wide[..., 1:-1, 1:-1] = pixels
    flat = wide.flatten()  # a view
    flat[:-1] |= flat[1:] << 1  # the end of a row meets the next one's start, and both are zero
    flat[: -width - 2] |= flat[width + 2 :] << 2  # likewise the last row
    return wide


def locate(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the corner whose four pixels are around each point.

    Args:
        points: float32 or float64, x,y in 0 to 1, shape (P, 2); fastest if x and y lie apart.
        height: Of the mask, in pixels.
        width: Of the mask, in pixels.

    Returns:
        Index into the packed mask, flattened, int32 (int64 for giant masks), (P,); and how far the point is from the
        left to the right pixel and from the upper to the lower one, 0 to 1, (P,) each.
    """
    (left, right), (top, down) = _split(points[:, 0], width), _split(points[:, 1], height)
    if (height + 2) * (width + 2) < _EXACT or points.dtype == torch.float64:
        corner = torch.add(left + (width + 3), top, alpha=width + 2).to(torch.int32)
    else:
        corner = (left.long() + 1).add_(top.long() + 1, alpha=width + 2)
    return corner, right, down


def fractions(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns the last two of what ``locate`` returns."""
    return _split(points[:, 0], width)[1], _split(points[:, 1], height)[1]


def _split(coordinate: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Splits a coordinate, 0 to 1, into the pixel before it and how far it is from there, 0 to 1."""
    position = pixel_position(coordinate, size)
    pixel = position.floor()
    return pixel, position.sub_(pixel)


def between_pixels(bits: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Interpolates between the four pixels that a byte of a packed mask holds.

    Args:
        bits: uint8, (..., P).
        right: How far each point is from the left to the right pixel, 0 to 1, (P,).
        down: How far it is from the upper to the lower one, 0 to 1, (P,).

    Returns:
        Values, (..., P), in the dtype of ``right``.
    """
    corners = [(bits >> shift & 1 if shift < 3 else bits >> 3).to(right.dtype) for shift in range(4)]
    upper, lower = corners[0].lerp_(corners[1], right), corners[2].lerp_(corners[3], right)
    return upper.lerp_(lower, down)
