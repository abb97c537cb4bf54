"""Deterministic weights: every tensor of a state dict is filled from its own name.

A network's reference output then needs no weight file: whoever knows the names and the shapes knows the weights.
"""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def fill_value(name: str, shape: Sequence[int]) -> Tensor:
    """Returns the value of one tensor.

    Args:
        name: Full name in the state dict; it seeds the generator.
        shape: Shape of the tensor.

    Returns:
        float32 tensor (int64 zero for ``num_batches_tracked``): small normal weights scaled by fan-in, scales and
        variances in [0.5, 1.5], the scalar gates ``gamma``, ``alpha`` and ``beta`` in [0.3, 0.7].
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    last = name.rpartition('.')[2]
    shape = tuple(shape)
    if last == 'num_batches_tracked':
        return torch.zeros(shape, dtype=torch.int64)
    if last == 'running_var':
        value = rng.uniform(0.5, 1.5, shape)
    elif last == 'running_mean':
        value = rng.normal(0, 0.1, shape)
    elif len(shape) > 1:
        value = rng.normal(0, np.sqrt(1 / np.prod(shape[1:])), shape)
    elif last == 'weight':
        value = rng.uniform(0.5, 1.5, shape)
    elif last in ('gamma', 'alpha', 'beta'):
        value = rng.uniform(0.3, 0.7, shape)
    else:
        value = rng.normal(0, 0.1, shape)
    return torch.as_tensor(value, dtype=torch.float32).reshape(shape)


def fill_state_dict(shapes: Mapping[str, Sequence[int] | Tensor]) -> dict[str, Tensor]:
    """Fills a whole state dict.

    Args:
        shapes: Shapes, or tensors that have them, by name.

    Returns:
        Filled tensors by name.
    """
    return {
        name: fill_value(name, value.shape if isinstance(value, Tensor) else value) for name, value in shapes.items()
    }
