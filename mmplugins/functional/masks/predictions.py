"""What the masks of an image's queries are made into: segments and instances.

Papers: MaskFormer (NeurIPS 2021), Mask2Former (CVPR 2022). mmdet computes both from the maps of all queries at full
size. Here queries are chosen before, and there are never more than one or two of them at full size; pixels, areas
and boxes are the same bit for bit, scores up to their last digit.

On the CPU the logits of a query bound what its resized ones may be, tile by tile, and only the window is resized in
which it may be the best query of a pixel, or cover one. The plain path resizes each chosen query as a whole.

Letters: K chosen queries, n instances, H W size of the result.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mmplugins.functional.device import cpu_kernels, full_dtype, zeros_buffer
from mmplugins.functional.masks.resized import ResizedMasks, Window

# How far rounding may take a resized logit out of its bounds, as a share of the largest one, and a product of score
# and mask, as a share of itself; ten times what it does.
_ROUNDING = 1e-5
_TINY = 1e-37  # below this a share says nothing


class Segments(NamedTuple):
    """Which of some queries has each pixel.

    Attributes:
        index: Its number among the chosen ones, int32 (H, W).
        inside: Whether its mask is 0.5 or more there, bool (H, W); None if that was not asked for.
        areas: How many pixels each query has, int64 (K,).
        mask_areas: Of how many pixels each query's mask is 0.5 or more, int64 (K,).
    """

    index: Tensor
    inside: Tensor | None
    areas: Tensor
    mask_areas: Tensor


class Instances(NamedTuple):
    """Masks with what is said of them.

    Attributes:
        scores: Mean of each mask's sigmoid where that is above 0.5, (n,).
        boxes: x1, y1, x2, y2 in pixels, float32 (n, 4); 0 for an empty mask.
        masks: bool (n, H, W), or a list of what ``encode`` returned.
    """

    scores: Tensor
    boxes: Tensor
    masks: Tensor | list


def find_segments(masks: ResizedMasks, queries: Tensor, scores: Tensor, with_inside: bool = False) -> Segments:
    """Gives each pixel to the query with the largest product of score and mask, of equal ones to the first.

    Args:
        masks: Logits; finite.
        queries: Numbers of the chosen queries, int64 (K,); at least one.
        scores: Their scores, above 0, (K,).
        with_inside: Whether ``inside`` is wanted.

    Returns:
        See the class.
    """
    index = torch.zeros(masks.size, dtype=torch.int32, device=queries.device)
    inside = torch.zeros(masks.size, dtype=torch.bool, device=queries.device) if with_inside else None
    mask_areas = torch.zeros_like(queries)
    numbers, best = queries.tolist(), None
    for number, (query, window) in enumerate(zip(numbers, _segment_windows(masks, numbers, scores), strict=True)):
        mask = masks.window(query, window).sigmoid()
        covered = mask >= 0.5
        mask_areas[number] = torch.count_nonzero(covered)
        product = scores[number].view(1, 1) * mask  # of the dtype that mmdet's product has
        if best is None:
            best = product.new_full(masks.size, -1)
        wins = product > best[window]
        best[window] = torch.maximum(product, best[window])
        index[window].masked_fill_(wins, number)
        if with_inside:
            inside[window] = torch.where(wins, covered, inside[window])
    return Segments(index, inside, torch.bincount(index.flatten(), minlength=len(numbers)), mask_areas)


def find_instances(masks: ResizedMasks, queries: Tensor, encode: Callable[[Tensor], object] | None = None) -> Instances:
    """Cuts out masks where the logits are above 0.

    Args:
        masks: Logits; finite.
        queries: The query of each instance, int64 (n,); each is resized once, however often it occurs.
        encode: Called with each query's mask, bool (H, W), columns contiguous; what it returns stands in its place.
            The mask is used again afterwards. None: all masks are kept.

    Returns:
        See the class.
    """
    count, device, size = len(queries), queries.device, masks.size
    chosen, slots = queries.unique(return_inverse=True)
    kept = zeros_buffer((count, *size), torch.bool, device) if encode is None else [None] * count
    scratch = None if encode is None else torch.zeros(size[::-1], dtype=torch.bool, device=device).T
    places = [[] for _ in range(len(chosen))]
    for place, slot in enumerate(slots.tolist()):
        places[slot].append(place)
    rows, columns = (torch.zeros(len(chosen), length, dtype=torch.bool, device=device) for length in size)
    means = _Means(size, min(count, 2), device)
    for slot, query in enumerate(chosen.tolist()):
        window = _mask_window(masks, query)
        logits = masks.window(query, window)
        mask = logits > 0
        means.add(logits, mask, window)
        rows[slot, window[0]], columns[slot, window[1]] = mask.any(1), mask.any(0)
        if encode is None:
            for place in places[slot]:
                kept[place][window] = mask
        else:
            scratch[window] = mask
            for place in places[slot]:
                kept[place] = encode(scratch)
            scratch[window] = False
    return Instances(means.all(full_dtype(masks.logits))[slots], _boxes(rows, columns)[slots], kept)


class _Means:
    """Means of sigmoids inside of masks, from sums that torch cuts nearly as it does those of all instances."""

    def __init__(self, size: tuple[int, int], together: int, device: torch.device) -> None:
        # torch cuts a single sum into one part for each thread, but not one of two; mmdet's are as many as instances.
        self._size, self._together, self._device = size, together, device
        self._maps, self._pending, self._means = None, [], []

    def add(self, logits: Tensor, mask: Tensor, window: Window) -> None:
        self._pending.append((logits, mask.float(), window))
        if len(self._pending) == self._together:
            self._sum()

    def all(self, dtype: torch.dtype) -> Tensor:
        if self._pending:
            self._sum()
        return torch.cat(self._means) if self._means else torch.zeros(0, dtype=dtype, device=self._device)

    def _sum(self) -> None:
        counts = self._sum_of([(mask, window) for _, mask, window in self._pending])
        sums = self._sum_of([(logits.sigmoid() * mask, window) for logits, mask, window in self._pending])
        self._means.append(sums / (counts + 1e-6))
        self._pending = []

    def _sum_of(self, values: list[tuple[Tensor, Window]]) -> Tensor:
        if self._maps is None or self._maps.dtype != values[0][0].dtype:
            self._maps = zeros_buffer((self._together, *self._size), values[0][0].dtype, self._device)
        for full, (value, window) in zip(self._maps, values, strict=False):
            full[window] = value
        sums = self._maps.flatten(1).sum(1)[: len(values)]
        for full, (_, window) in zip(self._maps, values, strict=False):
            full[window] = 0
        return sums


def _windowed(masks: ResizedMasks) -> bool:
    """Whether windows pay and are exact: in half precision different masks round to the same."""
    return cpu_kernels(masks.logits) and masks.logits.dtype in (torch.float32, torch.float64)


def _whole(masks: ResizedMasks) -> Window:
    return slice(0, masks.size[0]), slice(0, masks.size[1])


def _margins(masks: ResizedMasks, query: int) -> tuple[Tensor, Tensor]:
    """Bounds of a query's resized logits that hold in spite of rounding."""
    upper, lower = masks.bounds(query)
    margin = _ROUNDING * (1 + torch.maximum(upper.abs().max(), lower.abs().max()))
    return upper + margin, lower - margin


def _segment_windows(masks: ResizedMasks, queries: list[int], scores: Tensor) -> list[Window]:
    """Where each query may win a pixel or cover one."""
    if not _windowed(masks):
        return [_whole(masks)] * len(queries)
    bounds = [_margins(masks, query) for query in queries]
    surest = torch.stack([score * lower.sigmoid() for score, (_, lower) in zip(scores, bounds, strict=True)]).amax(0)
    return [
        masks.region((score * upper.sigmoid() * (1 + _ROUNDING) + _TINY >= surest) | (upper >= 0))
        for score, (upper, _) in zip(scores, bounds, strict=True)
    ]


def _mask_window(masks: ResizedMasks, query: int) -> Window:
    """Where a query's logits may be above 0."""
    return masks.region(_margins(masks, query)[0] > 0) if _windowed(masks) else _whole(masks)


def _boxes(rows: Tensor, columns: Tensor) -> Tensor:
    """Boxes around masks, of which the rows (n, H) and columns (n, W) are known that they touch."""
    if not len(rows):
        return torch.zeros(0, 4, device=rows.device)
    sides = [columns, rows]
    first = [side.to(torch.uint8).argmax(1) for side in sides]
    last = [side.shape[1] - side.flip(1).to(torch.uint8).argmax(1) for side in sides]
    return torch.stack((*first, *last), 1).float() * rows.any(1)[:, None]
