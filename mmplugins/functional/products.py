"""Linear layers and attention on the CPU by oneDNN, where nothing is differentiated.

PyTorch has MKL multiply matrices of float32, and oneDNN compute convolutions. MKL's float32 kernels are at home on
Intel's processors; on AMD's, oneDNN computes the same products in less than half of the time. Its linear layer is an
operator of PyTorch's that ``torch.compile`` uses; where it is missing, or differs from ``F.linear``, everything takes
the plain path.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.compat import autocast_dtype, is_compiling
from mmplugins.functional.device import cpu_kernels

_ROWS = 160  # queries of a block and thread: their scores are read again while they are still in the cache
_THREADS = 4  # with more, PyTorch's attention, which shares out heads and blocks at once, has more to share out


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Computes ``x @ weight.T + bias``, as ``F.linear`` does.

    Args:
        x: Shape (..., I), any dtype.
        weight: Shape (O, I).
        bias: Shape (O,).

    Returns:
        Shape (..., O).
    """
    if _by_onednn(x) and weight.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')
    return F.linear(x, weight, bias)


def attention(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Computes scaled dot-product attention of several heads over all keys.

    Args:
        query: Shape (N, L, C), any dtype.
        key: Shape (N, S, C).
        value: Shape (N, S, C).
        num_heads: Number of heads, which divides the channels.

    Returns:
        Shape (N, L, C): the heads' outputs one after the other.
    """
    query, key, value = (x.unflatten(2, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    if _by_onednn(query) and key.dtype == value.dtype == torch.float32 and torch.get_num_threads() <= _THREADS:
        return _blocked_attention(query, key, value)
    out = F.scaled_dot_product_attention(query, key, value)  # (N, heads, L, C / heads)
    return out.transpose(1, 2).flatten(2)


def _blocked_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Computes attention of (N, heads, L, D) a block of queries at a time; see ``attention``."""
    batch, heads, length, channels = query.shape
    query = (query * channels**-0.5).contiguous()
    key, value = key.contiguous(), value.mT.contiguous()  # (N, heads, S, D), (N, heads, D, S)
    out = query.new_empty(batch, length, heads, channels)
    step = _ROWS * torch.get_num_threads()
    for n in range(batch):
        for head in range(heads):
            for rows in (slice(start, start + step) for start in range(0, length, step)):
                scores = linear(query[n, head, rows], key[n, head])  # (rows, S)
                out[n, rows, head] = linear(scores.softmax(-1), value[n, head])
    return out.flatten(2)


def _by_onednn(x: Tensor) -> bool:
    """Whether a product of a tensor goes to oneDNN."""
    return (
        x.dtype == torch.float32
        and cpu_kernels(x)
        and x.numel() > 0
        and not torch.is_grad_enabled()
        and not is_compiling()
        and autocast_dtype('cpu') is None
        and _has_linear()
    )


@cache
def _has_linear() -> bool:
    """Whether this PyTorch has oneDNN's linear layer, and it gives what ``F.linear`` gives."""
    x, weight, bias = (torch.arange(float(n), device='cpu').cos().view(-1, 8) for n in (24, 40, 8))
    try:
        out = torch.ops.mkldnn._linear_pointwise(x, weight, bias[0, :5].contiguous(), 'none', [], '')
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return torch.allclose(out, F.linear(x, weight, bias[0, :5]), atol=1e-5)
