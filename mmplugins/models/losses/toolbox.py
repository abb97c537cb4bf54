"""mmdet's losses that ours equal, and how those that ours do not equal are called.

A set criterion computes a loss of mmdet by our own code where it gives the same values up to ``loss_weight``. The table
says which those are; any other loss is called as mmdet's heads call it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmplugins.functional.masks.ignored import IGNORED_LOGIT

# Our computation: mmdet's class, and the settings under which it is the same.
EQUAL = {
    'softmax_cross_entropy': (
        'CrossEntropyLoss',
        {'use_sigmoid': False, 'use_mask': False, 'reduction': 'mean', 'ignore_index': None},
    ),
    'l1': ('L1Loss', {'reduction': 'mean'}),
    'giou': ('GIoULoss', {'reduction': 'mean'}),
    'binary_cross_entropy': (
        'CrossEntropyLoss',
        {'use_sigmoid': True, 'use_mask': False, 'reduction': 'mean', 'class_weight': None, 'ignore_index': None},
    ),
    'focal': ('FocalLoss', {'use_sigmoid': True, 'activated': False, 'reduction': 'mean'}),
    'dice': (
        'DiceLoss',
        {'use_sigmoid': True, 'activate': True, 'reduction': 'mean', 'naive_dice': True, 'eps': 1.0},
    ),
}


def equal_weight(loss: object, ours: str, **settings) -> float | None:
    """Returns the factor with which our computation equals a loss, or None if it does not.

    Args:
        loss: A loss; a subclass of mmdet's is another loss.
        ours: Key of ``EQUAL``.
        **settings: Further attributes that the loss must have.
    """
    name, required = EQUAL[ours]
    if type(loss).__name__ != name or not type(loss).__module__.startswith('mmdet.models.losses.'):
        return None
    missing = object()
    same = all(getattr(loss, key, missing) == value for key, value in {**required, **settings}.items())
    return float(loss.loss_weight) if same else None


class BorrowedLoss:
    """A loss that belongs to another module: called here, but no submodule, so that a checkpoint has it once.

    Args:
        loss: The loss.
    """

    def __init__(self, loss: nn.Module) -> None:
        self.loss = loss

    def __call__(self, *args, **kwargs) -> Tensor:
        """Calls the loss."""
        return self.loss(*args, **kwargs)


def call_labels(loss: object, logits: Tensor, classes: Tensor, class_weight: Tensor) -> Tensor:
    """Calls a classification loss for each layer, as mmdet's mask heads do; returns (L,).

    Args:
        loss: The loss.
        logits: (L, B, Q, C+1).
        classes: int64 (L, B, Q).
        class_weight: (C+1,); the sum of its entries is what a layer is divided by.
    """
    losses = []
    for layer, labels in zip(logits, classes.flatten(1), strict=True):
        scores = layer.flatten(0, 1)  # (B * Q, C+1)
        losses.append(loss(scores, labels, torch.ones_like(labels), avg_factor=class_weight[labels].sum()))
    return torch.stack(losses)


def call_elements(
    loss: object, logits: Tensor, target: Tensor, valid: Tensor | None, avg_factor: Tensor | float
) -> Tensor:
    """Calls a loss on elements, as mmdet's mask heads do.

    Args:
        loss: The loss.
        logits: (M, P), or (M * P, 1) for a loss on classes.
        target: (M, P).
        valid: 1 for each valid element and 0 for each ignored one, (M, P), or None; each row's weights are scaled so
            that its mean is over the valid ones.
        avg_factor: What the sum over pairs is divided by.
    """
    if not target.numel():
        return logits.sum()
    num_points = target.shape[1]
    logits = logits.flatten() if logits.shape == target.shape else logits
    if valid is None:
        return loss(logits, target.flatten(), avg_factor=avg_factor * num_points)
    weight = valid * (num_points / valid.sum(1, keepdim=True).clamp(min=1))
    return loss(logits, target.flatten(), weight.flatten(), avg_factor=avg_factor * num_points)


def call_dice(loss: object, logits: Tensor, target: Tensor, valid: Tensor | None, avg_factor: Tensor | float) -> Tensor:
    """Calls a loss on masks, (M, ...), as mmdet's heads do; ignored elements are certain background.

    Takes what ``call_elements`` takes.
    """
    if not logits.numel():
        return logits.sum()
    if valid is not None:
        logits, target = logits.masked_fill(valid == 0, IGNORED_LOGIT), target.masked_fill(valid == 0, 0)
    return loss(logits, target, avg_factor=avg_factor)


def class_weights(class_weight: Sequence[float] | Tensor, num_classes: int) -> Tensor:
    """Returns weights of all classes, no-object last, float32 (C+1,).

    Raises:
        ValueError: There is not one for each class and no-object.
    """
    weights = torch.as_tensor(class_weight, dtype=torch.float32)
    if weights.shape != (num_classes + 1,):
        raise ValueError(
            f'class_weight needs {num_classes + 1} numbers, one for each of {num_classes} classes and one for '
            f'no-object, got {weights.numel()}'
        )
    return weights
