"""torchvision's operators, where torchvision is installed and imports beside the torch that is there."""

from collections.abc import Callable
from functools import cache

import torch


@cache
def torchvision_operator(name: str) -> Callable | None:
    """Returns an operator of torchvision, or None if there is none.

    A wheel of torchvision can fail to import beside a torch that it was not built for, in more than one way; any
    failure counts as absent.

    Args:
        name: As in ``torch.ops.torchvision``.
    """
    try:
        import torchvision  # noqa: F401

        return getattr(torch.ops.torchvision, name)
    except Exception:
        return None
