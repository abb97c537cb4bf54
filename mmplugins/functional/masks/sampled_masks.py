"""Masks sampled at points without a float copy of them.

Papers: PointRend (CVPR 2020), Mask2Former (CVPR 2022). Released code: detectron2's point_features.py, which calls
``grid_sample`` on float masks, four bytes a pixel. ``points.py`` says what a point is.

On the CPU a mask is packed: each byte holds, as bits, the pixels to the upper left, upper right, lower left and lower
right of a corner between four pixels, with zeros around the mask. A point then costs one gather instead of four and
needs no test whether a pixel is outside. Elsewhere the four pixels around a point are gathered as they are.

Letters: G masks, H W their size, P points, M rows of points.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mmplugins.functional.device import empty_buffer

_EXACT = 1 << 24  # integers below it are exact in float32
_WORTH_PACKING = 128  # pixels that are packed in the time that it saves on one point
MINUS_ONE, MINUS_HALF = torch.tensor(-1.0), torch.tensor(-0.5)  # made once: a scalar costs as much as the sum
_CHUNK = 1 << 16  # points worked on at once, so that the dozen arrays of them stay in the cache
_SMALL = 1 << 18  # pixels of all masks of an image up to which they are worked on together


def sample_masks(masks: Tensor, points: Tensor, index: Tensor | None = None) -> Tensor:
    """Interpolates masks at points; equals ``grid_sample`` of the masks as floats. No gradient flows.

    Args:
        masks: bool, integer (0 is background, the rest foreground) or floating, shape (G, H, W).
        points: float32 or float64, x,y in 0 to 1: shape (P, 2), the same for all masks; or (M, P, 2), a row each.
        index: int64 (M,), which mask each row of points is for; None: row i is for mask i, and M is G.

    Returns:
        Values, dtype of the points: (G, P) where the masks share the points, else (M, P).

    Raises:
        ValueError: Shapes do not fit.
    """
    _check_mask_call(masks, points, index)
    with torch.no_grad():
        if points.dim() == 3:
            return mask_sampler(masks, points[..., 0].numel() // max(len(masks), 1))(points, index)
        if not _bits_will_do(masks):
            return _sample_shared(masks, points)
        sampler, found = _PackedMasks(masks, len(points)), locate(points, *masks.shape[1:])
        values = empty_buffer((len(masks), len(points)), points.dtype, points.device)
        for mask, row in enumerate(values):
            row.copy_(sampler.look_up(mask, *found))
        return values


def mask_sampler(masks: Tensor, num_points: int) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Gives a function of rows of points, (M, P, 2), and the masks they are for, (M,); see ``sample_masks``.

    It remembers the last mask: rows of one mask are best sampled one after the other.

    Args:
        masks: Shape (G, H, W).
        num_points: Number of points that each mask will be sampled at, about.
    """
    if not _bits_will_do(masks):
        return lambda points, index=None: _sample_rows(masks, points, index)
    sampler = _PackedMasks(masks, num_points)
    if masks.numel() <= _SMALL and sampler.packs:
        return sampler.sample_rows

    def sample(points: Tensor, index: Tensor | None = None) -> Tensor:
        values = points.new_empty(points.shape[:2])
        rows = list(range(len(points))) if index is None else index.tolist()
        for mask in dict.fromkeys(rows):
            members = [row for row, other in enumerate(rows) if other == mask]
            flat = points if len(members) == len(rows) else points[members]
            values[members] = sampler.sample(mask, flat.flatten(0, 1)).view(len(members), -1)
        return values

    return sample


def _bits_will_do(masks: Tensor) -> bool:
    return masks.device.type == 'cpu' and not masks.is_floating_point()


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
    corners, weight = neighbours(points, *masks.shape[1:])  # (4, P)
    flat = masks.flatten(1)
    values = points.new_zeros(len(masks), len(points))
    for corner, share in zip(corners, weight, strict=True):
        values += _pixels(flat.index_select(1, corner), points.dtype).mul_(share)
    return values


def _sample_rows(masks: Tensor, points: Tensor, index: Tensor | None) -> Tensor:
    """Samples each row of points, (M, P, 2), in its mask, without a gather of masks; gives (M, P)."""
    corners, weight = neighbours(points.flatten(0, 1), *masks.shape[1:])  # (4, M * P)
    index = torch.arange(len(points), device=points.device) if index is None else index
    first = index.repeat_interleave(points.shape[1], output_size=points[..., 0].numel()) * masks.shape[1:].numel()
    flat, values = masks.flatten(), points.new_zeros(weight.shape[1])
    for corner, share in zip(corners, weight, strict=True):
        values += _pixels(flat.index_select(0, corner + first), points.dtype).mul_(share)
    return values.view(points.shape[:2])


def _pixels(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Gives mask values as floats; of integers only whether they are 0."""
    return values.to(dtype) if values.is_floating_point() else (values != 0).to(dtype)


def neighbours(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Finds the four pixels around each point, and how much each counts.

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
    position = pixel_position(coordinate, size)
    low = position.floor()
    share = position - low
    first, second = low.clamp(0, size - 1), (low + 1).clamp_(0, size - 1)
    weights = ((1 - share).mul_(first == low), share.mul_(second == low + 1))
    return (first.long(), second.long()), weights


class _PackedMasks:
    """Interpolates the masks of one image at points, on the CPU; a mask is packed once if it has many points.

    Args:
        masks: bool or integer (0 is background), shape (G, H, W).
        num_points: Number of points that each mask will be sampled at, about.
    """

    def __init__(self, masks: Tensor, num_points: int) -> None:
        self.masks = masks
        self.height, self.width = masks.shape[1:]
        self.packs = num_points * _WORTH_PACKING >= self.height * self.width
        self._last: tuple[int, Tensor] | None = None
        self._all: Tensor | None = None

    def sample(self, mask: int, points: Tensor) -> Tensor:
        """Samples one mask; see ``sample_masks``.

        Args:
            mask: Which mask.
            points: float32 or float64, x,y in 0 to 1, shape (P, 2); fastest if x and y lie apart.

        Returns:
            Values, (P,), dtype of the points.
        """
        parts = [self.look_up(mask, *locate(part, self.height, self.width)) for part in points.split(_CHUNK)]
        return torch.cat(parts) if len(parts) != 1 else parts[0]

    def sample_rows(self, points: Tensor, index: Tensor | None = None) -> Tensor:
        """Samples all masks at once, which are packed once; see ``mask_sampler``."""
        if self._all is None:
            self._all = pack(self.masks)
        corner, right, down = locate(points.flatten(0, 1), self.height, self.width)
        index = torch.arange(len(points)) if index is None else index
        first = (index * self._all[0].numel()).repeat_interleave(points.shape[1])
        bits = self._all.flatten().index_select(0, first.add_(corner))
        return _interpolate(bits, right, down).view(points.shape[:2])

    def look_up(self, mask: int, corner: Tensor, right: Tensor, down: Tensor) -> Tensor:
        """Samples one mask at what ``locate`` found, (P,) each."""
        if self.packs:
            bits = self._packed(mask).index_select(0, corner)
        else:
            bits = _gather_bits(self.masks[mask], corner)
        return _interpolate(bits, right, down)

    def _packed(self, mask: int) -> Tensor:
        if self._last is None or self._last[0] != mask:
            self._last = (mask, pack(self.masks[mask]).flatten())
        return self._last[1]


def pack(masks: Tensor) -> Tensor:
    """Packs masks, bool or integer (..., H, W): uint8 (..., H + 2, W + 2), a byte for each corner, see the module."""
    *number, height, width = masks.shape
    pixels = (masks if masks.dtype == torch.bool else masks != 0).view(torch.uint8)
    wide = pixels.new_zeros(*number, height + 2, width + 2)  # the last row and column are for points at the far edge
    wide[..., 1:-1, 1:-1] = pixels
    flat = wide.flatten()
    right = flat[:-1] | flat[1:] << 1  # the end of a row meets the next one's start, and both are zero
    packed = torch.zeros_like(flat)
    torch.bitwise_or(right[: 1 - width - 3], right[width + 2 :] << 2, out=packed[: -width - 3])
    return packed.view_as(wide)


def locate(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the corner whose four pixels are around each point.

    Args:
        points: float32 or float64, x,y in 0 to 1, shape (P, 2).
        height: Of the mask, in pixels.
        width: Of the mask, in pixels.

    Returns:
        Index into the packed mask, flattened, int32 (int64 for giant masks), (P,); and how far the point is from the
        left to the right pixel and from the upper to the lower one, 0 to 1, (P,) each.
    """
    x, y = pixel_position(points[:, 0], width), pixel_position(points[:, 1], height)
    left, top = x.floor(), y.floor()
    if (height + 2) * (width + 2) < _EXACT or points.dtype == torch.float64:
        corner = torch.add(left + (width + 3), top, alpha=width + 2).to(torch.int32)
    else:
        corner = (left.long() + 1).add_(top.long() + 1, alpha=width + 2)
    return corner, x.sub_(left), y.sub_(top)


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
    grid = torch.add(MINUS_ONE, coordinate, alpha=2).add_(1)
    return torch.add(MINUS_HALF, grid, alpha=size / 2).clamp_(-1, size)


def _gather_bits(mask: Tensor, corner: Tensor) -> Tensor:
    """Gathers the bits of some corners from a mask that is not packed, uint8 (P,)."""
    height, width = mask.shape
    row, column = corner // (width + 2), corner % (width + 2)  # of the lower right pixel, one too high
    flat, bits = mask.reshape(-1), None
    for shift, (up, left) in enumerate(((1, 1), (1, 0), (0, 1), (0, 0))):
        y, x = row - up, column - left
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        pixel = (flat.index_select(0, (y * width + x).mul_(inside)) != 0) & inside
        pixel = pixel.view(torch.uint8) << shift
        bits = pixel if bits is None else bits | pixel
    return bits


def _interpolate(bits: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Interpolates between the four pixels whose bits are given, (P,) each."""
    corners = [(bits >> shift & 1 if shift < 3 else bits >> 3).to(right.dtype) for shift in range(4)]
    upper, lower = corners[0].lerp_(corners[1], right), corners[2].lerp_(corners[3], right)
    return upper.lerp_(lower, down)
