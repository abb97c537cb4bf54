"""Reductions of element-wise losses, with mmdet's and mmseg's rules."""

import torch
from torch import Tensor

REDUCTIONS = ('none', 'mean', 'sum')


def check_reduction(reduction: str) -> str:
    """Returns the reduction if it is one.

    Raises:
        ValueError: It is none of 'none', 'mean', 'sum'.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}; pass 'mean' for the usual loss")
    return reduction


def reduce_loss(
    loss: Tensor, reduction: str, count: Tensor | float, avg_factor: Tensor | float | None = None
) -> Tensor:
    """Reduces an element-wise loss.

    Args:
        loss: Element-wise loss of any shape; elements that do not count are 0.
        reduction: 'none', 'mean' or 'sum'.
        count: What a mean divides by when there is no ``avg_factor``; 0 gives a loss of 0.
        avg_factor: What a mean divides by instead, if given; as in mmdet, float32's epsilon is added, so that 0 is
            allowed.

    Returns:
        The loss itself for 'none', else a scalar, attached to the graph also where it is 0.

    Raises:
        ValueError: The reduction is unknown, or 'sum' comes with an ``avg_factor``.
    """
    if check_reduction(reduction) == 'none':
        return loss
    if reduction == 'sum':
        if avg_factor is not None:
            raise ValueError("avg_factor divides a mean; it cannot be used with reduction 'sum', drop one of them")
        return loss.sum()
    if avg_factor is not None:
        return loss.sum() / (avg_factor + torch.finfo(torch.float32).eps)
    # A number stays one: as a tensor on the device it would cost a copy that waits, and a compilation a value.
    return loss.sum() / (torch.where(count == 0, 1, count) if isinstance(count, Tensor) else count or 1)
