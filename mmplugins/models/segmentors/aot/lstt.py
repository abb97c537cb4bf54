"""Long short-term transformer: blocks that read the memories of past frames.

Paper: AOT (NeurIPS 2021), section 3.2, figure 3. Released code: ``LongShortTermTransformer`` of
networks/layers/transformer.py, ``PositionEmbeddingSine`` of networks/layers/position.py.

Deliberate differences: tokens are batch first; a block has a method for the reference frame, which reads itself, and
one for all others, instead of one with optional arguments.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.drop import DropPath
from torch import Tensor, nn

from .attention import Linear, MultiheadAttention, ShortTermAttention
from .memory import KeyValue

Size = tuple[int, int]  # height and width in positions


class LSTTBlock(nn.Module):
    """Self-attention, then long-term plus short-term attention, then a feed-forward network; each is a residual.

    Queries and keys of the long-term and short-term attention are the same projection of the frame's content. A memory
    holds these keys, and as values the content fused with the identities: ``value(content + identity)``.

    Args:
        channels: Channels C of the tokens.
        num_heads: Heads of all three attentions.
        window: Side of the short-term window in positions.
        feedforward_channels: Width of the feed-forward network.
        drop_path: Rate at which self-attention and feed-forward network are dropped, sample by sample, in training.
    """

    def __init__(
        self, channels: int, num_heads: int, window: int, feedforward_channels: int, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(channels)
        self.self_attention = MultiheadAttention(channels, num_heads, project_inputs=True)
        self.memory_norm = nn.LayerNorm(channels)
        self.query_key = Linear(channels, channels)
        self.value = Linear(channels, channels)
        self.long_term_attention = MultiheadAttention(channels, num_heads, project_inputs=False)
        self.short_term_attention = ShortTermAttention(channels, num_heads, window)
        self.feedforward_norm = nn.LayerNorm(channels)
        self.feedforward = FeedForward(channels, feedforward_channels)
        self.drop_path = DropPath(drop_path)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def reference(self, x: Tensor, positions: Tensor, size: Size, identity: Tensor) -> tuple[Tensor, KeyValue]:
        """Computes a frame whose mask is given: it reads itself, with its identities.

        Args:
            x: Tokens, shape (N, h * w, C).
            positions: Position embedding, shape (1, h * w, C).
            size: h and w.
            identity: Identity embedding, shape (N, h * w, C).

        Returns:
            Tokens of the same shape, and what the memories keep of the frame.
        """
        x, frame = self._self_attend(x, positions)
        entry = self.fuse(frame, identity)
        return self._read(x, frame.key, size, entry, entry), entry

    def propagate(
        self, x: Tensor, positions: Tensor, size: Size, long_term: KeyValue, short_term: KeyValue
    ) -> tuple[Tensor, KeyValue]:
        """Computes a frame from the memories; see ``reference``.

        Returns:
            Tokens, shape (N, h * w, C), and the frame's keys and contents, for ``fuse`` once its mask is known.
        """
        x, frame = self._self_attend(x, positions)
        return self._read(x, frame.key, size, long_term, short_term), frame

    def fuse(self, frame: KeyValue, identity: Tensor) -> KeyValue:
        """Adds identities (N, h * w, C) to what ``propagate`` returned for a frame: an entry of the memories."""
        return KeyValue(frame.key, self.value(frame.value + identity))

    def _self_attend(self, x: Tensor, positions: Tensor) -> tuple[Tensor, KeyValue]:
        content = self.self_norm(x)
        placed = content + positions
        x = x + self.drop_path(self.self_attention(placed, placed, content))
        content = self.memory_norm(x)
        return x, KeyValue(self.query_key(content), content)

    def _read(self, x: Tensor, query: Tensor, size: Size, long_term: KeyValue, short_term: KeyValue) -> Tensor:
        x = x + self.long_term_attention(query, *long_term) + self.short_term_attention(query, *short_term, size)
        return x + self.drop_path(self.feedforward(self.feedforward_norm(x), size))


class FeedForward(nn.Module):
    """Two linear layers with group norm, GELU and a depthwise 5x5 convolution between them.

    Args:
        channels: Channels in and out.
        hidden_channels: Channels between, a multiple of 32.
    """

    def __init__(self, channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.expand = Linear(channels, hidden_channels)
        self.norm = nn.GroupNorm(32, hidden_channels)
        self.depthwise = nn.Conv2d(hidden_channels, hidden_channels, 5, padding=2, groups=hidden_channels, bias=False)
        self.reduce = Linear(hidden_channels, channels)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """Computes tokens (N, h * w, C) from tokens (N, h * w, C)."""
        x = self.expand(x).mT.unflatten(2, size)  # (N, hidden, h, w)
        x = self.depthwise(F.gelu(self.norm(x)))
        return self.reduce(x.flatten(2).mT)


class LSTT(nn.Module):
    """A stack of blocks, each block's output normalised for the decoder.

    Args:
        num_blocks: Number of blocks.
        channels: Channels C of the tokens.
        num_heads: Heads of the attentions.
        window: Side of the short-term window in positions.
        feedforward_channels: Width of the feed-forward networks.
        drop_path: See ``LSTTBlock``.
    """

    def __init__(
        self,
        num_blocks: int,
        channels: int = 256,
        num_heads: int = 8,
        window: int = 15,
        feedforward_channels: int = 1024,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            LSTTBlock(channels, num_heads, window, feedforward_channels, drop_path) for _ in range(num_blocks)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(num_blocks))
        # Released checkpoints have it, and no code reads it. It is kept so that they convert both ways without loss.
        self.register_buffer('mask_token', torch.zeros(1, 1, channels))

    def reference(self, embedding: Tensor, identity: Tensor) -> tuple[list[Tensor], list[KeyValue]]:
        """Computes a frame whose mask is given.

        Args:
            embedding: Image embedding, shape (N, C, h, w).
            identity: Identity embedding, shape (N, h * w, C).

        Returns:
            Output of each block, (N, C, h, w), and what the memories keep, for each block (N, h * w, C).
        """
        x, positions, size = self._tokens(embedding)
        outputs, entries = [], []
        for block, norm in zip(self.blocks, self.norms, strict=True):
            x, entry = block.reference(x, positions, size, identity)
            outputs.append(norm(x).mT.unflatten(2, size))
            entries.append(entry)
        return outputs, entries

    def propagate(
        self, embedding: Tensor, long_term: Sequence[KeyValue], short_term: Sequence[KeyValue]
    ) -> tuple[list[Tensor], list[KeyValue]]:
        """Computes a frame from the memories.

        Args:
            embedding: Image embedding, shape (N, C, h, w).
            long_term: Entry of each block, (N, S, C).
            short_term: Entry of each block, (N, h * w, C).

        Returns:
            Output of each block, (N, C, h, w), and for each block the frame's keys and contents, (N, h * w, C).
        """
        x, positions, size = self._tokens(embedding)
        outputs, frames = [], []
        for block, norm, *memory in zip(self.blocks, self.norms, long_term, short_term, strict=True):
            x, frame = block.propagate(x, positions, size, *memory)
            outputs.append(norm(x).mT.unflatten(2, size))
            frames.append(frame)
        return outputs, frames

    def fuse(self, frames: Sequence[KeyValue], identity: Tensor) -> list[KeyValue]:
        """Adds identities (N, h * w, C) to what ``propagate`` returned for a frame: what the memories keep."""
        return [block.fuse(frame, identity) for block, frame in zip(self.blocks, frames, strict=True)]

    @staticmethod
    def _tokens(embedding: Tensor) -> tuple[Tensor, Tensor, Size]:
        size = tuple(embedding.shape[2:])
        return embedding.flatten(2).mT, sine_positions(size, embedding), size


def sine_positions(size: Size, like: Tensor) -> Tensor:
    """Returns DETR's sine embedding of positions, coordinates from 0 to 2 pi.

    Args:
        size: Height and width in positions.
        like: Tensor (N, C, h, w) whose channels, dtype and device are taken.

    Returns:
        Shape (1, h * w, C): the first half of the channels is for y, the second for x; sine and cosine alternate.
    """
    half = like.shape[1] // 2
    pair = torch.arange(half, device=like.device) // 2
    wavelength = 10000.0 ** (2 * pair / half)  # (C / 2,)
    axes = []
    for length in size:
        # The released code avoids 0 / 0 by 1e-6; kept, because it moves the last coordinate by a millionth.
        coordinate = torch.arange(length, device=like.device) / (length - 1 + 1e-6) * (2 * math.pi)
        angle = coordinate[:, None] / wavelength  # (length, C / 2)
        axes.append(torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], 2).flatten(1))
    y, x = axes
    height, width = size
    grid = torch.cat([y[:, None].expand(-1, width, -1), x[None].expand(height, -1, -1)], 2)  # (h, w, C)
    return grid.flatten(0, 1)[None].to(like.dtype)
