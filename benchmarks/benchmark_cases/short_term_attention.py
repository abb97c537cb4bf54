"""Short-term attention of AOT: each position attends to a 15x15 window, with relative position terms.

Both other formulations are written from their description (AOT, networks/layers/attention.py): ``unfold`` copies keys
and values for each of the 225 offsets; ``released`` is what the released code does without its compiled extension: it
unfolds the keys, and writes the attention into a matrix of all positions for the values.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.attention import local_attention

from ._case import Run, case

WINDOW = 15


@case(
    'short_term_attention',
    'attention to a 15x15 window around each position, 8 heads, 256 channels; typical: a frame of 481x849 at stride 16',
    small={'shape': (1, 8, 16, 16, 32)},
    typical={'shape': (1, 8, 31, 54, 32)},
    large={'shape': (1, 8, 46, 81, 32)},
)
def short_term_attention(device: torch.device, shape: tuple) -> dict:
    """Makes query, key and value (N, heads, H, W, D) and the relative position terms."""
    generator = torch.Generator().manual_seed(0)
    _, heads, _, _, channels = shape
    sizes = {name: shape for name in ('query', 'key', 'value')} | {
        'relative_key': (heads, WINDOW**2, channels),
        'relative_bias': (heads, WINDOW**2),
        'relative_value': (heads, channels, WINDOW**2),
    }
    return {name: torch.randn(size, generator=generator).to(device).requires_grad_() for name, size in sizes.items()}


@short_term_attention.contender('ours')
def ours(**inputs: Tensor) -> Run:
    """Builds ours."""
    return lambda: local_attention(**inputs)


@short_term_attention.contender('unfold')
def unfold(**inputs: Tensor) -> Run:
    """Builds the formulation that unfolds keys and values."""
    return lambda: unfolded_attention(**inputs)


@short_term_attention.contender('released')
def released(**inputs: Tensor) -> Run:
    """Builds the released formulation."""
    return lambda: released_attention(**inputs)


def unfolded_attention(
    query: Tensor, key: Tensor, value: Tensor, relative_key: Tensor, relative_bias: Tensor, relative_value: Tensor
) -> Tensor:
    """Computes what ``local_attention`` does, from unfolded keys and values."""
    attention = _window_attention(query, key, relative_key, relative_bias)  # (N, heads, offsets, positions)
    values = _unfold(value) + relative_value[None, ..., None]  # (N, heads, D, offsets, positions)
    out = (attention[:, :, None] * values).sum(3)  # (N, heads, D, positions)
    return out.mT.unflatten(2, query.shape[2:4])


def released_attention(
    query: Tensor, key: Tensor, value: Tensor, relative_key: Tensor, relative_bias: Tensor, relative_value: Tensor
) -> Tensor:
    """Computes what ``local_attention`` does, from unfolded keys and attention spread over all positions."""
    batch, heads, height, width, _ = query.shape
    attention = _window_attention(query, key, relative_key, relative_bias).mT  # (N, heads, positions, offsets)
    padded = height + WINDOW - 1, width + WINDOW - 1
    dense = attention.new_zeros(batch, heads, height * width, *padded)
    y, x = (torch.arange(length, device=query.device) for length in (height, width))
    rows, columns = (torch.arange(length, device=query.device) for length in padded)
    near_y, near_x = ((b - a[:, None] >= 0) & (b - a[:, None] < WINDOW) for a, b in ((y, rows), (x, columns)))
    near = (near_y[:, None, :, None] & near_x[:, None]).flatten(0, 1)  # (positions, H + 14, W + 14)
    dense = dense.masked_scatter(near.expand_as(dense), attention.reshape(-1))
    border = WINDOW // 2
    dense = dense[..., border:-border, border:-border].flatten(3)  # (N, heads, positions, positions)
    out = dense @ value.flatten(2, 3) + attention @ relative_value.mT
    return out.unflatten(2, (height, width))


def _window_attention(query: Tensor, key: Tensor, relative_key: Tensor, relative_bias: Tensor) -> Tensor:
    """Attention of each position to its window, (N, heads, offsets, positions), from unfolded keys."""
    height, width, channels = query.shape[2:]
    query = query.flatten(2, 3).mT  # (N, heads, D, positions)
    logits = (channels**-0.5 * query[:, :, :, None] * _unfold(key)).sum(2)
    logits = logits + relative_key @ query + relative_bias[..., None]
    inside = _unfold(query.new_ones(1, 1, height, width, 1))[:, :, 0]
    return (logits - 1e8 * (1 - inside)).softmax(2)


def _unfold(x: Tensor) -> Tensor:
    """Copies the window of each position: (N, heads, H, W, D) to (N, heads, D, offsets, positions)."""
    batch, heads, height, width, channels = x.shape
    maps = x.movedim(4, 2).reshape(batch * heads, channels, height, width)
    windows = F.unfold(F.pad(maps, [WINDOW // 2] * 4), WINDOW)
    return windows.view(batch, heads, channels, WINDOW**2, height * width)
