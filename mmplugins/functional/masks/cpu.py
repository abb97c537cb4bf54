"""Bilinear upsampling of maps a block of rows at a time, corners not aligned, and its gradient.

Letters: n maps, h w their size, H W the size they are brought to, R rows of a block, k gradients.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_CPU_BLOCK = 1 << 16  # pixels worked on at once, so that the dozen arrays of them stay in the cache
_COLUMNS = 128  # width of a block of columns


class Resizer:
    """Upsamples maps block by block, bilinear, corners not aligned, and brings gradients back down.

    On the CPU each axis is a product with a band of the interpolation matrix, a block of rows or columns at a time;
    elsewhere there is one block, upsampled by ``interpolate``.

    Args:
        size: h, w.
        full: H, W.
        dtype: Of the maps.
        device: Of the maps.
    """

    def __init__(self, size: Sequence[int], full: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
        self.size, self.full = tuple(size), tuple(full)
        self.on_cpu = device.type == 'cpu'
        self.blocks = [slice(0, full[0])]
        if self.on_cpu:
            step = max(1, _CPU_BLOCK // max(full[1], 1))
            self.blocks = [slice(start, min(start + step, full[0])) for start in range(0, full[0], step)]
            self._rows = [_band(block, size[0], full[0], dtype) for block in self.blocks]
            columns = [slice(start, min(start + _COLUMNS, full[1])) for start in range(0, full[1], _COLUMNS)]
            self._columns = [(block, *_band(block, size[1], full[1], dtype)) for block in columns]

    def widen(self, maps: Tensor) -> Tensor:
        """Upsamples the columns: (n, h, w) to (n, h, W); elsewhere than on the CPU nothing."""
        if not self.on_cpu:
            return maps
        return torch.cat([maps[..., source] @ band.T for _, source, band in self._columns], -1)

    def rows(self, wide: Tensor, block: int) -> Tensor:
        """Upsamples a block of rows from what ``widen`` gave: (n, R, W)."""
        if not self.on_cpu:
            return F.interpolate(wide[:, None], self.full, mode='bilinear', align_corners=False)[:, 0]
        source, band = self._rows[block]
        return band @ wide[:, source]

    def add_rows(self, total: Tensor | None, fields: Sequence[Tensor], block: int) -> Tensor:
        """Adds the gradients of a block of rows, (n, R, W) each, to those of ``widen``'s output, (k, n, h, W)."""
        if not self.on_cpu:
            number, shape = len(fields[0]), (len(fields[0]), 1, *self.size)
            backward = torch.ops.aten.upsample_bilinear2d_backward
            down = [backward(field[:, None], self.full, shape, False, None, None)[:, 0] for field in fields]
            return torch.stack(down).view(len(fields), number, *self.size)
        if total is None:
            total = fields[0].new_zeros(len(fields), len(fields[0]), self.size[0], self.full[1])
        source, band = self._rows[block]
        for part, field in zip(total, fields, strict=True):
            part[:, source].baddbmm_(band.T.expand(len(field), -1, -1), field)
        return total

    def narrow(self, total: Tensor) -> Tensor:
        """Brings the gradients of ``widen``'s output to its input: (k, n, h, w)."""
        if not self.on_cpu:
            return total
        maps = total.new_zeros(*total.shape[:-1], self.size[1])
        for block, source, band in self._columns:
            maps[..., source] += total[..., block] @ band
        return maps


def _band(block: slice, size: int, full: int, dtype: torch.dtype) -> tuple[slice, Tensor]:
    """Gives what a block of outputs along an axis is made of: a slice of the inputs, and the weights (out, in)."""
    weights = F.interpolate(torch.eye(size, dtype=dtype)[None], full, mode='linear', align_corners=False)[0]
    weights = weights[:, block].T
    used = weights.any(0).nonzero().flatten()
    source = slice(int(used[0]), int(used[-1]) + 1)
    return source, weights[:, source].contiguous()
