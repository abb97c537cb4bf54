"""Mask logits of an image's queries, resized as the toolboxes do, one query or one block of rows at a time.

mmdet upsamples the masks of all queries to the padded input, cuts the padding off, and resizes them to the original
image, before it looks at a score. Here the two resizings are steps that are taken for a query when it is asked for.

``one`` and ``window`` give the bits of ``interpolate``. For large maps it interpolates along a row first, rounds, and
then between two rows; an axis whose size stays is copied. So rows may be left out of the first half of the work and
columns out of the second, and no value changes. For small maps, up to 128 of height and width together, and for those
whose channels lie together, torch's CPU kernel rounds otherwise, by the number of channels too: these are resized as a
whole, and all queries together where mmdet's head does that. ``rows`` interpolates by itself and differs in the last
digits.

Letters: Q queries, h w size of the logits, H W of the resized ones, R rows of a block.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.compat import autocast_dtype, ordered
from mmplugins.functional.device import zeros_buffer

_SMALL = 256  # height and width together up to which torch's CPU kernel may be another one; torch's own limit is 128
_TILE = 4  # logits along each axis for which there is one bound
_SLACK = 0.02  # of a position; rounding moves one of 10,000 by a thousandth

Window = tuple[slice, slice]


class ResizedMasks:
    """Mask logits that stand for their resizing.

    Args:
        logits: Floating, shape (Q, h, w).
        steps: For each resizing, in order, the size that it gives and how much of that is kept, from the upper left
            corner: ((H, W), (H', W')).
        together: Whether the first resizing has the bits of one of all queries as channels of an image, as a head does
            it, else, as all others, of one query as the only channel.

    Attributes:
        size: H, W at the end.
    """

    def __init__(
        self, logits: Tensor, steps: Sequence[tuple[Sequence[int], Sequence[int]]] = (), together: bool = False
    ) -> None:
        self.logits = logits
        self.steps = [(tuple(map(int, size)), _least(size, kept)) for size, kept in steps]
        if together and self.steps and not separable(logits, self.steps[0][0]):
            (size, kept), *self.steps = self.steps
            self.logits = logits = _interpolate(logits[None], size)[0, :, : kept[0], : kept[1]]
        self._inputs = [tuple(logits.shape[-2:]), *(kept for _, kept in self.steps)]  # the last one: the result
        self.size = self._inputs[-1]

    def __len__(self) -> int:
        return len(self.logits)

    def full(self) -> Tensor:
        """Resizes all queries at once: (Q, H, W)."""
        x = self.logits[:, None]
        for size, kept in self.steps:
            x = _interpolate(x, size)[..., : kept[0], : kept[1]]
        return x[:, 0]

    def finite(self, queries: Tensor) -> bool:
        """Whether all logits of some queries, int64 (K,), are finite."""
        if not self.logits[0].numel() or not len(queries):
            return True
        least, most = ordered(self.logits).flatten(1).aminmax(dim=1)
        return bool((torch.isfinite(least) & torch.isfinite(most))[queries].all())

    def one(self, query: int) -> Tensor:
        """Resizes one query: (H, W)."""
        x = self.logits[query, None, None]
        for size, kept in self.steps:
            x = _interpolate(x, size)[..., : kept[0], : kept[1]]
        return x[0, 0]

    def window(self, query: int, window: Window) -> Tensor:
        """Resizes one query where it is needed.

        Args:
            query: Its number.
            window: Rows and columns of the result; may be empty.

        Returns:
            Of the window's size.
        """
        x = self.logits[query]
        if x.dtype not in (torch.float32, torch.float64) or autocast_dtype(x.device.type) is not None:
            return self.one(query)[window]  # half a resizing would be rounded once more
        if any(part.start == part.stop for part in window):
            return x.new_zeros([part.stop - part.start for part in window])
        needed = [window]
        for source, (size, _) in self._backwards():
            needed.insert(0, tuple(sources(*axis) for axis in zip(needed[0], source, size, strict=True)))
        for (size, kept), inputs, outputs in zip(self.steps, needed, needed[1:], strict=False):
            x = _resize_window(x, size, kept, inputs, outputs)
        return x[window]

    def rows(self, rows: slice) -> Tensor:
        """Resizes a block of rows of all queries, in float32 or float64: (Q, R, W)."""
        return self._rows(rows, len(self.steps))

    def _rows(self, rows: slice, steps: int) -> Tensor:
        if not steps:
            return self.logits[:, rows].to(torch.promote_types(self.logits.dtype, torch.float32))
        size, kept = self.steps[steps - 1]
        source = self._inputs[steps - 1]
        inputs = sources(rows, source[0], size[0])
        x = self._rows(inputs, steps - 1)
        x = mix(x, -2, rows, source[0], size[0], inputs.start)
        return mix(x, -1, slice(0, kept[1]), source[1], size[1])

    def bounds(self, query: int) -> tuple[Tensor, Tensor]:
        """Bounds what a query's resized logits may be.

        Returns:
            The largest and the smallest of the logits that the results of a tile are between, each of shape (number
            of tiles along the height, along the width); see ``region``.
        """
        kernel = [_TILE + self._reach(axis) for axis in (0, 1)]
        x = F.pad(self.logits[query, None], (0, kernel[1], 0, kernel[0]), mode='replicate')
        upper, lower = (F.max_pool2d(y, kernel, _TILE)[0] for y in (x, -x))
        return upper, -lower

    def region(self, tiles: Tensor) -> Window:
        """Returns the rows and columns that the chosen tiles reach; they are empty if there are none.

        Args:
            tiles: bool, of the shape of the bounds.
        """
        window = []
        for axis in (0, 1):
            chosen = tiles.any(1 - axis).nonzero()
            if not len(chosen):
                return slice(0, 0), slice(0, 0)
            tile = self._starts(axis) // _TILE
            ends = torch.stack((chosen[0, 0], chosen[-1, 0] + 1)).to(tile.device)
            start, stop = torch.searchsorted(tile, ends).tolist()
            window.append(slice(start, stop))
        return tuple(window)

    def _backwards(self) -> list[tuple[tuple[int, int], tuple]]:
        """Each step with the size of its input, the last step first."""
        return list(zip(self._inputs[:-1], self.steps, strict=True))[::-1]

    def _starts(self, axis: int) -> Tensor:
        """The first logit that each result along an axis may depend on, int64 on the CPU; grows."""
        places = torch.arange(self.size[axis], device='cpu')
        for source, (size, _) in self._backwards():
            places = _before(places, source[axis], size[axis])
        return places

    def _reach(self, axis: int) -> int:
        """How many logits beyond the first a result along an axis may depend on."""
        first = last = torch.arange(self.size[axis], device='cpu')
        for source, (size, _) in self._backwards():
            first, last = (f(x, source[axis], size[axis]) for f, x in ((_before, first), (_after, last)))
        return int((last - first).max()) if len(first) else 0


def separable(logits: Tensor, size: Sequence[int]) -> bool:
    """Whether a resizing of maps (Q, h, w), channels of an image, gives each the bits of a resizing of its own."""
    return logits.is_contiguous() and len(logits) > 3 and sum(size) > _SMALL


def _least(size: Sequence[int], kept: Sequence[int]) -> tuple[int, int]:
    return tuple(min(int(a), int(b)) for a, b in zip(size, kept, strict=True))


def _interpolate(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size, mode='bilinear', align_corners=False)


def _position(places: Tensor, source: int, size: int) -> Tensor:
    """Where results of an axis lie among the inputs; corners not aligned."""
    return ((places.double() + 0.5) * (source / size) - 0.5).clamp_(0, source - 1)


def _before(places: Tensor, source: int, size: int) -> Tensor:
    if source == size:
        return places
    return (_position(places, source, size) - _SLACK).floor_().clamp_(0, source - 1).long()


def _after(places: Tensor, source: int, size: int) -> Tensor:
    if source == size:
        return places
    return ((_position(places, source, size) + _SLACK).floor_() + 1).clamp_(0, source - 1).long()


def sources(places: slice, source: int, size: int) -> slice:
    """The inputs that a slice of the results along an axis may depend on."""
    ends = torch.tensor([places.start, places.stop - 1], device='cpu')
    return slice(int(_before(ends[:1], source, size)), int(_after(ends[1:], source, size)) + 1)


def _resize_window(x: Tensor, size: tuple, kept: tuple, inputs: Window, outputs: Window) -> Tensor:
    """Takes one step for a window: (h, w), right where ``inputs`` says, to ``kept``, right where ``outputs`` says."""
    if tuple(x.shape) == size:
        return x[: kept[0], : kept[1]]
    rows, columns = inputs[0], outputs[1]
    height, width = rows.stop - rows.start, columns.stop - columns.start
    halves = min(height + size[1], size[0] + width, sum(size))
    if halves <= _SMALL or height * size[1] + size[0] * width > math.prod(size):
        return _interpolate(x[None, None], size)[0, 0, : kept[0], : kept[1]]
    wide = _interpolate(x[None, None, rows], (height, size[1]))[0, 0]  # (rows, W)
    tall = x.new_zeros(x.shape[0], width)
    tall[rows] = wide[:, columns]
    tall = _interpolate(tall[None, None], (size[0], width))[0, 0]  # (H, columns)
    if (outputs[0], outputs[1]) == (slice(0, kept[0]), slice(0, kept[1])):
        return tall[: kept[0]]
    full = zeros_buffer(kept, x.dtype, x.device)
    full[outputs] = tall[outputs[0]]
    return full


def mix(x: Tensor, axis: int, places: slice, source: int, size: int, start: int = 0) -> Tensor:
    """Interpolates between two inputs along an axis; the inputs begin with number ``start``."""
    if source == size:
        return x.narrow(axis, places.start - start, places.stop - places.start)
    position = _position(torch.arange(places.start, places.stop, device='cpu'), source, size)
    before = position.floor()
    share = (position - before).to(x.dtype).to(x.device)
    before = before.long() - start
    after = (before + 1).clamp_(max=source - 1 - start)
    before, after = before.to(x.device), after.to(x.device)
    return torch.lerp(x.index_select(axis, before), x.index_select(axis, after), share.view(-1, *[1] * (-1 - axis)))
