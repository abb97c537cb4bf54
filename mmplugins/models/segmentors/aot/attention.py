"""The attentions of AOT's transformer.

Paper: AOT (NeurIPS 2021), section 3.2. Released code: networks/layers/attention.py.

Deliberate differences: tokens are batch first; long-term attention goes through PyTorch's fused kernels, short-term
attention through ``mmplugins.functional.attention``; dropouts that all released configs leave at 0 are absent.
"""

import torch
from torch import Tensor, nn

from mmplugins.functional.attention import local_attention
from mmplugins.functional.products import attention, linear


class Linear(nn.Linear):
    """A linear layer that inference on a CPU computes by oneDNN."""

    def forward(self, x: Tensor) -> Tensor:
        """Computes (..., out_features) from (..., in_features)."""
        return linear(x, self.weight, self.bias)


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention over all keys.

    Args:
        channels: Channels of queries, keys and values.
        num_heads: Number of heads, which divides the channels.
        project_inputs: Whether queries, keys and values pass a linear layer first.
    """

    def __init__(self, channels: int, num_heads: int, project_inputs: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.project_inputs = project_inputs
        if project_inputs:
            self.query = Linear(channels, channels)
            self.key = Linear(channels, channels)
            self.value = Linear(channels, channels)
        self.projection = Linear(channels, channels)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attends with queries (N, L, C) to keys and values (N, S, C); returns (N, L, C)."""
        if self.project_inputs:
            query, key, value = self.query(query), self.key(key), self.value(value)
        return self.projection(attention(query, key, value, self.num_heads))


class ShortTermAttention(nn.Module):
    """Attention of each position to a window around it in another frame, with relative position terms.

    Args:
        channels: Channels of queries, keys and values.
        num_heads: Number of heads, which divides the channels.
        window: Side of the window in positions, odd.
    """

    def __init__(self, channels: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        per_head = channels // num_heads
        # A grouped convolution in the released code; only its weights are used, by the function.
        self.relative_key = nn.Conv2d(channels, num_heads * window**2, 1, groups=num_heads)
        self.relative_value = nn.Parameter(torch.zeros(num_heads, per_head, window**2))
        self.projection = Linear(channels, channels)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, size: tuple[int, int]) -> Tensor:
        """Attends within the window.

        Args:
            query: Shape (N, h * w, C), rows one after the other.
            key: Same shape.
            value: Same shape.
            size: Height h and width w in positions.

        Returns:
            Shape (N, h * w, C).
        """
        split = (*size, self.num_heads, -1)
        query, key, value = (x.view(len(x), *split).movedim(3, 1) for x in (query, key, value))  # (N, heads, h, w, D)
        out = local_attention(
            query,
            key,
            value,
            self.relative_key.weight.view(self.num_heads, -1, query.shape[-1]),
            self.relative_key.bias.view(self.num_heads, -1),
            self.relative_value,
        )
        return self.projection(out.movedim(1, 3).flatten(3).flatten(1, 2))
