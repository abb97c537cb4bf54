"""What every registered loss shares: the call that mmdet's and mmseg's heads make, float32, weight and name."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.fileio import load
from torch import Tensor, nn

from mmplugins.functional.reduction import check_reduction


class BaseLoss(nn.Module, metaclass=ABCMeta):
    """Base class of the losses.

    Args:
        loss_weight: Factor of the loss.
        loss_name: Name in the log; heads add up what starts with 'loss'.
        ignore_index: Label that takes no part; a head's own, passed at the call, comes first.
        reduction: 'mean', 'sum' or 'none'.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        loss_name: str = 'loss',
        ignore_index: int | None = 255,
        reduction: str = 'mean',
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.ignore_index = ignore_index
        self.reduction = check_reduction(reduction)
        self._loss_name = loss_name

    @property
    def loss_name(self) -> str:
        """Name of the loss in the log."""
        return self._loss_name

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: str | None = None,
        ignore_index: int | None = None,
        **kwargs,
    ) -> Tensor:
        """Computes the loss in float32 (float64 for float64), whatever the autocast state.

        Args:
            pred: Logits, shape (N, C, H, W), any floating dtype.
            target: Labels or masks, shape (N, H, W); see the class.
            weight: Factor of each pixel's loss, shape (N, H, W).
            avg_factor: What the mean divides by, instead of its own count.
            reduction_override: 'mean', 'sum' or 'none', instead of the configured reduction.
            ignore_index: Label that takes no part, instead of the configured one.
            **kwargs: What other losses in the same ``loss_decode`` take; ignored here unless the class says so.

        Returns:
            The weighted loss; a scalar unless the reduction is 'none'.

        Raises:
            ValueError: Shapes do not fit or the target holds values that it must not; see the class.
        """
        check_floating('pred', pred)
        with torch.autocast(pred.device.type, enabled=False):
            loss = self.compute(
                pred if pred.dtype == torch.float64 else pred.float(),
                target,
                weight=weight,
                avg_factor=avg_factor,
                reduction=check_reduction(reduction_override or self.reduction),
                ignore_index=self.ignore_index if ignore_index is None else ignore_index,
                **kwargs,
            )
        return self.loss_weight * loss

    @abstractmethod
    def compute(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None,
        avg_factor: Tensor | float | None,
        reduction: str,
        ignore_index: int | None,
        **kwargs,
    ) -> Tensor:
        """Computes the loss without its ``loss_weight``; takes what ``forward`` takes, defaults resolved."""

    def extra_repr(self) -> str:
        """Shows the settings in ``print(model)``."""
        return f'loss_weight={self.loss_weight}, loss_name={self.loss_name!r}, ignore_index={self.ignore_index}'


def check_floating(name: str, value: Tensor) -> None:
    """Raises TypeError if a tensor is not floating."""
    if not torch.is_floating_point(value):
        raise TypeError(f'{name} must be floating-point logits, got {value.dtype}; pass what the head computed')


def class_weight_tensor(class_weight: Sequence[float] | str | None) -> Tensor | None:
    """Gives class weights as a float32 tensor (C,).

    Args:
        class_weight: The weights; or a JSON, YAML, pickle or ``.npy`` file that holds them, as mmseg takes it; or None.

    Raises:
        ValueError: They are not a list of non-negative numbers.
    """
    if class_weight is None:
        return None
    source = class_weight
    if isinstance(class_weight, str):
        class_weight = np.load(class_weight) if class_weight.endswith('.npy') else load(class_weight)
    weights = torch.as_tensor(class_weight, dtype=torch.float32)
    if weights.dim() != 1 or not bool((weights >= 0).all()):
        raise ValueError(f'class_weight must be a list of non-negative numbers, one a class, got {source}')
    return weights


def class_weight_of(class_weight: Tensor, label: Tensor, pred: Tensor, ignore_index: int) -> Tensor:
    """Gives each pixel the weight of its class.

    Args:
        class_weight: Shape (C,).
        label: int64, shape (N, H, W).
        pred: Logits (N, C, H, W), for their number of classes and dtype.
        ignore_index: Label whose pixels get the weight 0.

    Raises:
        ValueError: There is not one weight a class.
    """
    if len(class_weight) != pred.shape[1]:
        raise ValueError(f'class_weight has {len(class_weight)} entries, but the logits have {pred.shape[1]} classes')
    ignored = label == ignore_index
    return class_weight.to(pred)[label.masked_fill(ignored, 0)].masked_fill(ignored, 0)
