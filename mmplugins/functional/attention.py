"""Attention of each position of a map to a square window around it, with relative position terms.

Paper: AOT (NeurIPS 2021), short-term attention. Released code: networks/layers/attention.py,
``MultiheadLocalAttentionV2``. Deliberate difference: no compiled extension, and no copy of the keys for each offset.

The map is cut into tiles. The queries of a tile are multiplied with the keys of the tile and its halo in one matrix
product. The products of a query with the keys of its window lie on a band of that matrix, which is a strided view of
it: entry (a, b) of the window of the query (y, x) is the key (y + a, x + b) of the halo, so that its place in memory
is linear in y, x, a and b. The values are summed in the same way, through a matrix that is 0 off the band.

The largest tensor is the attention, heads x positions x window; it is kept where there is a backward pass. All others
cover one row of tiles. The gradient is written by hand; there is no second derivative.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmplugins.functional.device import full_precision, without_autocast
from mmplugins.functional.gradients import first_order

TILE = 8  # a larger tile makes fewer and larger products, and more of each is off the band
OUTSIDE = -1e30  # logit of keys beyond the border; finite, because the last tiles may have queries without any key


def local_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    relative_key: Tensor,
    relative_bias: Tensor,
    relative_value: Tensor,
    tile: int = TILE,
) -> Tensor:
    """Computes windowed attention with relative position terms.

    For each head, position p and offset o of the window, without keys and values beyond the border:

        a_po  = softmax over o of  q_p k_(p+o) / sqrt(D) + q_p r_o + b_o
        out_p = sum over o of  a_po (v_(p+o) + s_o)

    Args:
        query: q, shape (N, heads, H, W, D), not scaled.
        key: k, same shape.
        value: v, same shape.
        relative_key: r, shape (heads, window ** 2, D); the window's offsets row by row, the upper left one first.
        relative_bias: b, shape (heads, window ** 2).
        relative_value: s, shape (heads, D, window ** 2).
        tile: Side of the tiles, in positions.

    Returns:
        Shape (N, heads, H, W, D), of the query's dtype, in which all products are computed; the softmax is computed at
        least in float32.

    Raises:
        ValueError: The shapes do not fit one another, or the window's side is even.
    """
    _check(query, key, value, relative_key, relative_bias, relative_value)
    inputs = [x.to(query.dtype).transpose(0, 1) for x in (query, key, value)]  # (heads, N, H, W, D)
    inputs += [x.to(query.dtype) for x in (relative_key, relative_bias, relative_value)]
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    return _LocalAttention.apply(*inputs, tile, keep).transpose(0, 1)


def _check(query: Tensor, key: Tensor, value: Tensor, *relative: Tensor) -> None:
    if query.dim() != 5 or not query.shape == key.shape == value.shape:
        raise ValueError(
            'query, key and value must be of one shape (N, heads, H, W, D), got '
            f'{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}'
        )
    heads, channels, offsets = query.shape[1], query.shape[4], relative[0].shape[1]
    window = round(offsets**0.5)
    expected = ((heads, offsets, channels), (heads, offsets), (heads, channels, offsets))
    shapes = tuple(tuple(x.shape) for x in relative)
    if window**2 != offsets or window % 2 == 0 or shapes != expected:
        raise ValueError(
            f'with {heads} heads of {channels} channels and an odd window, relative_key must be (heads, window ** 2, '
            'D), relative_bias (heads, window ** 2) and relative_value (heads, D, window ** 2), got '
            f'{shapes[0]}, {shapes[1]} and {shapes[2]}'
        )


class _Tiles(NamedTuple):
    """How a map is cut. B: heads x N x tiles of a row; T: positions of a tile; K: of a tile with its halo."""

    heads: int
    batch: int
    height: int
    width: int
    channels: int
    window: int
    tile: int

    @property
    def rows(self) -> int:
        return -(-self.height // self.tile)

    @property
    def columns(self) -> int:
        return -(-self.width // self.tile)

    @property
    def halo(self) -> int:
        """Side of a tile with its halo."""
        return self.tile + self.window - 1

    def padded(self, x: Tensor, with_halo: bool) -> Tensor:
        """Pads (heads, N, H, W, D) with zeros to whole tiles, and for keys and values by the halo."""
        border = self.window // 2 if with_halo else 0
        right, below = self.columns * self.tile - self.width, self.rows * self.tile - self.height
        return F.pad(x, (0, 0, border, border + right, border, border + below))

    def inner(self, x: Tensor, with_halo: bool) -> Tensor:
        """Undoes ``padded``."""
        border = self.window // 2 if with_halo else 0
        return x[:, :, border : border + self.height, border : border + self.width]

    def queries(self, x: Tensor, row: int) -> Tensor:
        """Cuts a row of tiles out of what was padded without halo: (B, T, D)."""
        strip = x[:, :, row * self.tile : (row + 1) * self.tile]
        strip = strip.unflatten(3, (self.columns, self.tile)).transpose(2, 3)  # (heads, N, columns, tile, tile, D)
        return strip.reshape(-1, self.tile**2, self.channels)

    def put_queries(self, x: Tensor, row: int, tiles: Tensor) -> None:
        """Writes a row of tiles (B, T, D) into what was padded without halo."""
        strip = x[:, :, row * self.tile : (row + 1) * self.tile].unflatten(3, (self.columns, self.tile))
        strip.transpose(2, 3).copy_(tiles.view(self.heads, self.batch, self.columns, self.tile, self.tile, -1))

    def keys(self, x: Tensor, row: int) -> Tensor:
        """Cuts a row of tiles with their halos out of what was padded with halo: (B, K, D)."""
        strip = x[:, :, row * self.tile : row * self.tile + self.halo].unfold(3, self.halo, self.tile)
        # (heads, N, halo, columns, D, halo)
        return strip.permute(0, 1, 3, 2, 5, 4).reshape(-1, self.halo**2, self.channels)

    def add_keys(self, x: Tensor, row: int, tiles: Tensor) -> None:
        """Adds a row of tiles (B, K, D), which overlap, to what was padded with halo."""
        strip = x[:, :, row * self.tile : row * self.tile + self.halo]
        tiles = tiles.view(self.heads, self.batch, self.columns, self.halo, self.halo, -1)
        for column in range(self.columns):
            strip[:, :, :, column * self.tile : column * self.tile + self.halo] += tiles[:, :, column]

    def band(self, matrix: Tensor) -> Tensor:
        """Views the windows of a contiguous matrix (B, T, K) of queries and keys: (B, tile, tile, window, window)."""
        size = (len(matrix), self.tile, self.tile, self.window, self.window)
        keys = self.halo**2
        stride = (self.tile**2 * keys, self.tile * keys + self.halo, keys + 1, self.halo, 1)
        return matrix.as_strided(size, stride)

    def windows(self, entries: Tensor) -> Tensor:
        """Views entries (B, T, window ** 2) as (B, tile, tile, window, window)."""
        return entries.view(len(entries), self.tile, self.tile, self.window, self.window)

    def outside(self, row: int, device: torch.device) -> Tensor:
        """Marks the window entries that lie beyond the border, bool, (columns, tile, tile, window, window)."""
        offset = torch.arange(self.window, device=device) - self.window // 2
        y = torch.arange(row * self.tile, (row + 1) * self.tile, device=device)[:, None] + offset  # (tile, window)
        x = torch.arange(self.columns * self.tile, device=device)[:, None] + offset
        y, x = (y < 0) | (y >= self.height), (x < 0) | (x >= self.width)
        x = x.view(self.columns, 1, self.tile, 1, self.window)
        return y[:, None, :, None] | x

    def by_head(self, x: Tensor) -> Tensor:
        """Views (B, T, ...) as (heads, rest, ...), for what each head has one of."""
        return x.view(self.heads, -1, x.shape[-1])


class _LocalAttention(torch.autograd.Function):
    """``local_attention`` of (heads, N, H, W, D), a row of tiles at a time; the attention is kept for a backward pass.

    1. Attention: softmax of q r + b + the band of q k / sqrt(D), keys beyond the border masked.
    2. Spread it on the band of a matrix of 0.
    3. Output: that matrix times v, plus attention times s.
    4. Backward: gradients of v and s.
    5. Gradient of the attention a, and with it that of the logits, a (d a - sum over o of a d a).
    6. Spread it on the band; gradients of q, k, r and b.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        r: Tensor,
        b: Tensor,
        s: Tensor,
        tile: int,
        keep: bool,
    ) -> Tensor:
        tiles = _Tiles(*query.shape, window=round(r.shape[1] ** 0.5), tile=tile)
        keys, values = tiles.padded(key, True), tiles.padded(value, True)
        queries = tiles.padded(query, False)
        out = torch.empty_like(queries)
        attentions, spread = [], None
        with without_autocast(query.device):
            for row in range(tiles.rows):
                attention = _attention(tiles, queries, keys, r, b, row)  # step 1, (B, T, window ** 2)
                spread = _spread(tiles, attention, spread)  # step 2, (B, T, K)
                result = torch.bmm(spread, tiles.keys(values, row))  # step 3, (B, T, D)
                tiles.by_head(result).baddbmm_(tiles.by_head(attention), s.mT)
                tiles.put_queries(out, row, result)
                if keep:
                    attentions.append(attention)
        ctx.save_for_backward(query, key, value, r, s, *attentions)
        ctx.tiles = tiles
        return tiles.inner(out, False)

    @staticmethod
    @first_order('local_attention')
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, r, s, *attentions = ctx.saved_tensors
        tiles: _Tiles = ctx.tiles
        scale = tiles.channels**-0.5
        queries, keys, values = tiles.padded(query, False), tiles.padded(key, True), tiles.padded(value, True)
        grads = tiles.padded(grad, False)
        d_queries, d_keys, d_values = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
        d_r, d_b, d_s = torch.zeros_like(r), torch.zeros_like(r[..., 0]), torch.zeros_like(s)
        spread = None
        with without_autocast(grad.device):
            for row, attention in enumerate(attentions):
                d_out, q = tiles.queries(grads, row), tiles.queries(queries, row)  # (B, T, D)
                spread = _spread(tiles, attention, spread)  # step 4
                tiles.add_keys(d_values, row, torch.bmm(spread.mT, d_out))
                d_s.baddbmm_(tiles.by_head(d_out).mT, tiles.by_head(attention))

                d_attention = torch.bmm(tiles.by_head(d_out), s).view_as(attention)  # step 5
                products = torch.bmm(d_out, tiles.keys(values, row).mT)  # (B, T, K)
                tiles.windows(d_attention).add_(tiles.band(products))
                mean = (d_attention * attention).sum(-1, keepdim=True)
                d_logits = d_attention.sub_(mean).mul_(attention)

                spread = _spread(tiles, d_logits, spread)  # step 6
                d_q = torch.bmm(spread, tiles.keys(keys, row)).mul_(scale)
                tiles.by_head(d_q).baddbmm_(tiles.by_head(d_logits), r)
                tiles.put_queries(d_queries, row, d_q)
                tiles.add_keys(d_keys, row, torch.bmm(spread.mT, q).mul_(scale))
                d_r.baddbmm_(tiles.by_head(d_logits).mT, tiles.by_head(q))
                d_b += tiles.by_head(d_logits).sum(1)
        inner = tiles.inner(d_queries, False), tiles.inner(d_keys, True), tiles.inner(d_values, True)
        return *inner, d_r, d_b, d_s, None, None


def _attention(tiles: _Tiles, queries: Tensor, keys: Tensor, r: Tensor, b: Tensor, row: int) -> Tensor:
    """Attention of a row of tiles, (B, T, window ** 2), in the queries' dtype."""
    q = tiles.queries(queries, row)  # (B, T, D)
    logits = torch.baddbmm(b[:, None], tiles.by_head(q), r.mT)  # (heads, B T / heads, window ** 2)
    logits = full_precision(logits).view(len(q), -1, logits.shape[-1])
    products = torch.bmm(q * tiles.channels**-0.5, tiles.keys(keys, row).mT)  # (B, T, K)
    windows = tiles.windows(logits).add_(tiles.band(products))
    outside = tiles.outside(row, q.device)
    windows.view(-1, *outside.shape).masked_fill_(outside, OUTSIDE)
    return logits.softmax(-1).to(q.dtype)


def _spread(tiles: _Tiles, entries: Tensor, matrix: Tensor | None) -> Tensor:
    """Writes window entries (B, T, window ** 2) on the band of a matrix (B, T, K) that is 0 off it; it is reused."""
    if matrix is None:
        matrix = entries.new_zeros(len(entries), tiles.tile**2, tiles.halo**2)
    tiles.band(matrix).copy_(tiles.windows(entries))
    return matrix
