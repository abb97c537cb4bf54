"""torchvision's operators, where torchvision is installed and imports beside the torch that is there.

On the CPU only its suppression of boxes is faster than ours; its RoIAlign there is the kernel of mmcv, which ours beats
(benchmark case ``roi_align``).
"""

from collections.abc import Callable
from functools import cache

import torch

_DEVICES = {
    'nms': ('cpu', 'cuda'),
    'roi_align': ('cuda',),
    '_roi_align_backward': ('cuda',),
}


def torchvision_operator(name: str, device: torch.device) -> Callable | None:
    """Returns an operator of torchvision that should be used on a device, or None.

    Args:
        name: As in ``torch.ops.torchvision``.
        device: Where the tensors are.
    """
    return _operator(name) if device.type in _DEVICES[name] else None


@cache
def _operator(name: str) -> Callable | None:
    # A wheel of torchvision can fail to import beside a torch that it was not built for, in more than one way.
    try:
        import torchvision  # noqa: F401

        return getattr(torch.ops.torchvision, name)
    except Exception:
        return None
