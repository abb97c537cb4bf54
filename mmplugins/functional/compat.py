"""What differs between the versions of PyTorch that are supported, from 2.1 on.

Each function goes when the oldest supported version has what it stands for.
"""

from collections.abc import Callable
from typing import TypeVar

import torch

VERSION = tuple(int(part) for part in torch.__version__.split('.')[:2])  # (major, minor)
FLOAT16_ON_CPU_SINCE = (2, 3)  # autocast in float16 on the CPU, and the scaler of losses that it needs
COMPILES_SINCE = (2, 6)  # the oldest version on which compiled losses were compared with uncompiled ones

Function = TypeVar('Function', bound=Callable)

if VERSION >= (2, 3):
    is_compiling = torch.compiler.is_compiling
else:
    is_compiling = torch._utils.is_compiling  # the compiler knows both as constants


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """Returns the dtype that autocast computes in on a kind of device, or None where autocast is off.

    Args:
        device_type: As in ``torch.device.type``: 'cpu', 'cuda', ...
    """
    if device_type == 'meta':  # has no autocast, and raises where it is asked
        return None
    if VERSION >= (2, 4):
        return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else None
    if device_type == 'cpu':
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    if device_type == 'cuda':
        return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
    return None


def compiled_where_exact(function: Function) -> Function:
    """Keeps ``torch.compile`` out of a function on versions that compile some of the losses to wrong values.

    PyTorch 2.1 on the CPU compiles ``SoftJaccardLoss`` to 0.826 instead of 0.863. Below ``COMPILES_SINCE`` the function
    runs uncompiled inside a compiled model: its values are exact, and it is no faster.
    """
    return function if VERSION >= COMPILES_SINCE else torch.compiler.disable(function)


def extremes(values: torch.Tensor) -> torch.Tensor:
    """Returns the smallest and the largest of some values, detached, (2,).

    Args:
        values: Of any real dtype and any shape but an empty one.
    """
    return torch.stack(ordered(values.detach()).aminmax())


def ordered(values: torch.Tensor) -> torch.Tensor:
    """Brings values to a dtype of which PyTorch finds the smallest and the largest: 2.1 does not for half precision."""
    return values.float() if VERSION < (2, 3) and values.dtype in (torch.float16, torch.bfloat16) else values
