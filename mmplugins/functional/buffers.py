"""Large tensors on the CPU whose memory comes in large pieces.

The system hands out fresh memory page by page, and clears each page when it is first written; for a tensor of tens
of megabytes that takes longer than what is computed into it. NumPy asks for large pages where there are such, and
for memory that is cleared already, so that zeros which are never written cost nothing.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_LARGE = 1 << 22  # bytes from which on NumPy asks for large pages


def empty_buffer(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Makes a tensor with arbitrary values, of a shape, dtype and device."""
    return _make(np.empty, torch.empty, shape, dtype, device)


def zeros_buffer(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Makes a tensor of zeros, of a shape, dtype and device."""
    return _make(np.zeros, torch.zeros, shape, dtype, device)


def _make(ours, theirs, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    shape = torch.Size(shape)
    if torch.device(device).type != 'cpu' or shape.numel() * dtype.itemsize < _LARGE:
        return theirs(shape, dtype=dtype, device=device)
    return torch.from_numpy(ours(shape.numel() * dtype.itemsize, dtype='uint8')).view(dtype).view(shape)
