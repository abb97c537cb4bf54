"""Bilinear upsampling and its gradient, on the CPU a block of rows at a time.

There it is, along each axis, a product with a band of the interpolation matrix.

Letters: n maps, h w their size, H W that of the upsampled maps, R rows of a block, k gradients.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.device import empty_buffer

_PIXELS = 1 << 16  # pixels of a block of rows
_COLUMNS = 128  # width of a block of columns


class BandedResizer:
    """Upsamples maps block by block, bilinear, and brings gradients back down.

    Where many maps are worked on together, such as those of all classes, a row of all of them lies together: (h, n, w)
    instead of (n, h, w). Then ``rows_first`` and ``add_rows_first`` do with one product each what ``rows`` and
    ``add_rows`` do map by map.

    Args:
        size: h, w.
        full: H, W.
        dtype: Of the maps.
        align_corners: As in ``interpolate``.
        step: Rows of a block; None: as many as make a block of one map that fits the cache.
    """

    def __init__(
        self,
        size: Sequence[int],
        full: Sequence[int],
        dtype: torch.dtype,
        align_corners: bool = False,
        step: int | None = None,
    ) -> None:
        self.size, self.full = tuple(size), tuple(full)
        self.blocks = row_blocks(full[0], step or max(1, _PIXELS // max(full[1], 1)))
        heights, widths = (interpolation_matrix(*pair, dtype, align_corners) for pair in zip(size, full, strict=True))
        self._rows = [_band(block, heights) for block in self.blocks]
        self._columns = [(block, *_band(block, widths)) for block in row_blocks(full[1], _COLUMNS)]

    def widen(self, maps: Tensor) -> Tensor:
        """Upsamples the columns: (..., w) to (..., W)."""
        wide = empty_buffer((*maps.shape[:-1], self.full[1]), maps.dtype, maps.device)
        for block, source, band in self._columns:
            wide[..., block] = maps[..., source] @ band.T
        return wide

    def rows(self, wide: Tensor, block: int) -> Tensor:
        """Upsamples a block of rows from what ``widen`` returned: (n, R, W)."""
        source, band = self._rows[block]
        return band @ wide[:, source]

    def add_rows(self, total: Tensor | None, fields: Sequence[Tensor], block: int) -> Tensor:
        """Adds the gradients of a block of rows, (n, R, W) each, to those of ``widen``'s output, (k, n, h, W)."""
        if total is None:
            total = fields[0].new_zeros(len(fields), len(fields[0]), self.size[0], self.full[1])
        source, band = self._rows[block]
        for part, field in zip(total, fields, strict=True):
            part[:, source].baddbmm_(band.T.expand(len(field), -1, -1), field)
        return total

    def rows_first(self, wide: Tensor, block: int) -> Tensor:
        """Upsamples a block of rows of ``widen``'s output (h, n, W): (R, n, W)."""
        source, band = self._rows[block]
        return torch.mm(band, wide[source].flatten(1)).view(-1, *wide.shape[1:])

    def add_rows_first(self, total: Tensor, field: Tensor, block: int) -> None:
        """Adds the gradient of a block of rows, (R, n, W), to that of ``widen``'s output, (h, n, W)."""
        source, band = self._rows[block]
        total[source].flatten(1).addmm_(band.T, field.flatten(1))

    def narrow(self, total: Tensor) -> Tensor:
        """Brings the gradients of ``widen``'s output to its input: (..., W) to (..., w)."""
        maps = total.new_zeros(*total.shape[:-1], self.size[1])
        for block, source, band in self._columns:
            maps[..., source] += total[..., block] @ band
        return maps


class PlainResizer:
    """Upsamples maps by ``interpolate``, all rows as one block; takes and returns what ``BandedResizer`` does.

    Args:
        size: h, w.
        full: H, W.
        dtype: Not used.
        align_corners: As in ``interpolate``.
        step: Not used.
    """

    def __init__(
        self,
        size: Sequence[int],
        full: Sequence[int],
        dtype: torch.dtype,
        align_corners: bool = False,
        step: int | None = None,
    ) -> None:
        self.size, self.full, self.align_corners = tuple(size), tuple(full), align_corners
        self.blocks = [slice(0, full[0])]

    def widen(self, maps: Tensor) -> Tensor:
        """Returns the maps."""
        return maps

    def rows(self, maps: Tensor, block: int) -> Tensor:
        """Upsamples maps (n, h, w) to (n, H, W)."""
        return F.interpolate(maps[:, None], self.full, mode='bilinear', align_corners=self.align_corners)[:, 0]

    def add_rows(self, total: None, fields: Sequence[Tensor], block: int) -> Tensor:
        """Brings k gradients, (n, H, W) each, down: (k, n, h, w)."""
        shape, backward = (len(fields[0]), 1, *self.size), torch.ops.aten.upsample_bilinear2d_backward
        fields = [backward(x[:, None], self.full, shape, self.align_corners, None, None)[:, 0] for x in fields]
        return torch.stack(fields)

    def narrow(self, total: Tensor) -> Tensor:
        """Returns the gradients."""
        return total


def row_blocks(length: int, step: int) -> list[slice]:
    """Cuts an axis into blocks of ``step``; the last one may be shorter."""
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def interpolation_matrix(size: int, full: int, dtype: torch.dtype, align_corners: bool = False) -> Tensor:
    """Returns what each output along an axis is made of: weights (full, size), as ``interpolate`` has them."""
    units = torch.eye(size, dtype=dtype, device='cpu')[None]
    return F.interpolate(units, full, mode='linear', align_corners=align_corners)[0].T


def _band(block: slice, weights: Tensor) -> tuple[slice, Tensor]:
    """Returns what a block of outputs is made of: a slice of the inputs, and the weights (out, in)."""
    weights = weights[block]
    used = weights.any(0).nonzero().flatten()
    source = slice(int(used[0]), int(used[-1]) + 1)
    return source, weights[:, source].contiguous()
