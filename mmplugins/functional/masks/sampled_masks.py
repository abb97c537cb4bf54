"""Masks sampled at points without a float copy of them.

Papers: PointRend (CVPR 2020), Mask2Former (CVPR 2022). Released code: detectron2's point_features.py, which calls
``grid_sample`` on float masks, four bytes a pixel. ``sampled_logits.py`` says what a point is. On the plain path the
four pixels around a point are gathered as they are; ``cpu.py`` packs them.

Letters: G masks, H W their size, P points, M rows of points.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmplugins.functional.device import empty_buffer
from mmplugins.functional.masks.cpu import ALL, PackedMasks, between_pixels, fractions, pixel_position

_CPU_POINTS = 1 << 16  # points worked on at once, so that they stay in the cache


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
        if points.dim() == 2:
            return layer_sampler(masks, points[None])(slice(None))[0]
        if PackedMasks.serves(masks, points[..., 0].numel() // max(len(masks), 1)):
            return PackedMasks(masks).sample_rows(points, index)[0]
        return _sample_rows(masks, points, index)


def layer_sampler(masks: Tensor, points: Tensor) -> Callable[[slice], Tensor]:
    """Returns a function that samples masks at the points of some layers, a slice, which all masks share.

    Each mask is read once, for all layers; what is kept takes a byte a point.

    Args:
        masks: As in ``sample_masks``, shape (G, H, W).
        points: x,y in 0 to 1, shape (L, P, 2).

    Returns:
        A function; it returns values, (l, G, P), in the dtype of the points.
    """
    size = masks.shape[1:]
    read = None
    if PackedMasks.serves(masks, points[..., 0].numel()):
        read = PackedMasks(masks).shared_corners(points.flatten(0, 1)).view(len(masks), *points.shape[:2])

    def sample(layers: slice) -> Tensor:
        some = points[layers]
        flat = some.flatten(0, 1)
        if read is None:
            values = _sample_shared(masks, flat)
        else:
            values, place = empty_buffer((len(masks), len(flat)), flat.dtype, flat.device), fractions(flat, *size)
            step = max(1, _CPU_POINTS // max(len(flat), 1))
            for part, corners in zip(values.split(step), read[:, layers].split(step), strict=True):
                part.copy_(between_pixels(corners.flatten(1), *place))
        return values.view(len(masks), *some.shape[:2]).transpose(0, 1)

    return sample


class PairTargets:
    """Samples masks at the points of pairs and keeps the values, in half a byte each where the CPU's kernels serve.

    Args:
        masks: Of each image (G, H, W), all of one size.
        shape: Number of pairs M and of points P.
        num_layers: Number of layers: how often each mask will be sampled, at most.
        dtype: Of the values.
        device: Of the values.

    Attributes:
        kept: What ``target_again`` makes the values of, a row for each pair.
        size: Height and width of the masks if half a byte each was kept, else None.
    """

    def __init__(
        self, masks: Sequence[Tensor], shape: tuple[int, int], num_layers: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        used = [one for one in masks if len(one)]
        packed = bool(used) and all(PackedMasks.serves(one, shape[1] * num_layers) for one in used)
        self.size = used[0].shape[1:] if packed else None
        half = (shape[0], (shape[1] + 1) // 2)
        self.kept = empty_buffer(half, torch.uint8, device) if packed else empty_buffer(shape, dtype, device)
        self._masks = masks
        self._packed: tuple[int, PackedMasks] | None = None  # of the last image

    def sample(self, image: int, points: Tensor, index: Tensor, places: slice | Tensor) -> Tensor:
        """Samples masks of an image and keeps the values; rows of one mask are best sampled one after the other.

        Args:
            image: Index of the image.
            points: x,y in 0 to 1, (m, P, 2).
            index: Mask of each row, int64 (m,).
            places: Which of the M pairs these are.

        Returns:
            Values, (m, P).
        """
        if self.size is None:
            self.kept[places] = values = _sample_rows(self._masks[image], points, index)
            return values
        if self._packed is None or self._packed[0] != image:
            self._packed = None  # before the next takes memory
            self._packed = image, PackedMasks(self._masks[image])
        values, read = self._packed[1].sample_rows(points, index)
        half = self.kept.shape[1]
        low, high = read[:, :half], read[:, half:]  # four bits each
        low[:, : high.shape[1]] |= high << 4
        self.kept[places] = low
        return values


def target_again(kept: Tensor, points: Tensor, size: Sequence[int] | None) -> Tensor:
    """Returns the values of masks, (m, P), from what ``PairTargets`` kept.

    Args:
        kept: Some rows of it.
        points: The points of these rows, (m, P, 2).
        size: Its ``size``.
    """
    if size is None:
        return kept
    read = torch.cat((kept & 15, kept >> 4), 1)[:, : points.shape[1]].flatten()
    values = (read == ALL).to(points.dtype)
    mixed = ((read > 0) & (read < ALL)).nonzero().squeeze(1)  # few points lie between foreground and background
    some = torch.stack([coordinate.flatten()[mixed] for coordinate in points.unbind(-1)]).T
    values[mixed] = between_pixels(read[mixed], *fractions(some, *size))
    return values.view(points.shape[:2])


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
    """Samples all masks, (G, H, W), at the same points, (P, 2); returns (G, P)."""
    corners, weight = _neighbours(points, *masks.shape[1:])  # (4, P)
    flat = masks.flatten(1)
    values = points.new_zeros(len(masks), len(points))
    for corner, share in zip(corners, weight, strict=True):
        values += _pixels(flat.index_select(1, corner), points.dtype).mul_(share)
    return values


def _sample_rows(masks: Tensor, points: Tensor, index: Tensor | None = None) -> Tensor:
    """Samples each row of points, (M, P, 2), in its mask, without a gather of masks; returns (M, P)."""
    corners, weight = _neighbours(points.flatten(0, 1), *masks.shape[1:])  # (4, M * P)
    index = torch.arange(len(points), device=points.device) if index is None else index
    first = index.repeat_interleave(points.shape[1], output_size=points[..., 0].numel()) * masks.shape[1:].numel()
    flat, values = masks.flatten(), points.new_zeros(weight.shape[1])
    for corner, share in zip(corners, weight, strict=True):
        values += _pixels(flat.index_select(0, corner + first), points.dtype).mul_(share)
    return values.view(points.shape[:2])


def _pixels(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns mask values as floats; of integers only whether they are 0."""
    return values.to(dtype) if values.is_floating_point() else (values != 0).to(dtype)


def _neighbours(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
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
    """Returns the two neighbours along an axis, clamped into the map, and their weights, 0 outside; each (P,)."""
    position = pixel_position(coordinate, size)
    low = position.floor()
    share = position - low
    first, second = low.clamp(0, size - 1), (low + 1).clamp_(0, size - 1)
    weights = ((1 - share).mul_(first == low), share.mul_(second == low + 1))
    return (first.long(), second.long()), weights
