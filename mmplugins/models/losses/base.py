"""What every registered loss shares: the call that mmdet's and mmseg's heads make, float32, weight and name."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.fileio import load
from torch import Tensor, nn

from mmplugins.functional.checks.labels import (
    NOTHING,
    check_floating,
    check_label_range,
    check_label_shape,
    check_weight_shape,
    class_weight_of,
)
from mmplugins.functional.compat import compiled_where_exact
from mmplugins.functional.device import full_precision, without_autocast
from mmplugins.functional.pixels.cross_entropy import pixel_cross_entropy
from mmplugins.functional.pixels.reduction import check_reduction
from mmplugins.functional.upsampled import UpsampledLogits

from .deferred_checks import DeferredChecks


class BaseLoss(DeferredChecks, nn.Module, metaclass=ABCMeta):
    """Base class of the losses. All settings are keywords; every loss takes these, in this order, after its own.

    Args:
        loss_weight: Factor of the loss.
        ignore_index: Label of pixels that are not valid, unless the head passes its own; None: all are valid.
        reduction: 'mean', 'sum' or 'none', unless a call overrides it.
        loss_name: Name in the log; heads add up what starts with 'loss'.
    """

    def __init__(
        self,
        *,
        loss_weight: float = 1.0,
        ignore_index: int | None = 255,
        reduction: str = 'mean',
        loss_name: str = 'loss',
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

    @compiled_where_exact
    def forward(
        self,
        pred: Tensor | UpsampledLogits,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: Tensor | float | None = None,
        reduction_override: str | None = None,
        ignore_index: int | None = None,
        **kwargs,
    ) -> Tensor:
        """Computes the loss in float32 (float64 for float64), whatever the autocast state.

        Args:
            pred: Logits, shape (N, C, H, W), any floating dtype; the losses on label maps and on binary masks take
                ``UpsampledLogits`` too, and never make a map of that size.
            target: Labels or masks, shape (N, H, W); see the class.
            weight: Factor of each pixel's loss, shape (N, H, W); no gradient flows to it.
            avg_factor: What the mean divides by, instead of its own count.
            reduction_override: 'mean', 'sum' or 'none', instead of the configured reduction.
            ignore_index: Label of pixels that are not valid, instead of the configured one.
            **kwargs: What other losses in the same ``loss_decode`` take; not used unless the class says so.

        Returns:
            The weighted loss; a scalar unless the reduction is 'none'.

        Raises:
            ValueError: Shapes do not fit or the target holds values that it must not; see the class.
        """
        check_floating('pred', pred)
        pred = full_precision(pred)
        with without_autocast(pred.device):
            loss = self.compute(
                pred,
                target,
                weight=None if weight is None else weight.detach().to(pred.dtype),
                avg_factor=avg_factor,
                reduction=check_reduction(reduction_override or self.reduction),
                ignore_index=self.ignore_index if ignore_index is None else ignore_index,
                **kwargs,
            )
        return self.loss_weight * loss

    @abstractmethod
    def compute(
        self,
        pred: Tensor | UpsampledLogits,
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
        return (
            f'loss_weight={self.loss_weight}, ignore_index={self.ignore_index}, reduction={self.reduction!r}, '
            f'loss_name={self.loss_name!r}'
        )


class BaseLabelLoss(BaseLoss):
    """Base class of losses on label maps, with optional class weights.

    Args:
        class_weight: Weight of each class, or a file that holds the list.
        **shared: Settings of ``BaseLoss``.
    """

    takes_upsampled_logits = True  # so that LowResolutionLossHead may use it

    def __init__(self, *, class_weight: Sequence[float] | str | None = None, **shared) -> None:
        super().__init__(**shared)
        self.register_buffer('class_weight', class_weight_tensor(class_weight), persistent=False)

    def check(
        self, pred: Tensor | UpsampledLogits, target: Tensor, weight: Tensor | None, ignore_index: int | None
    ) -> tuple[Tensor, int, Tensor | None]:
        """Checks the arguments of a call.

        Args:
            pred: Logits (N, C, H, W), C at least 2.
            target: Integer class indices (N, H, W).
            weight: Factor of each pixel, (N, H, W), or None.
            ignore_index: Label of pixels that are not valid, or None.

        Returns:
            Labels, int64 (N, H, W); ``ignore_index``, or a label that no class has where it is None; the weight of each
            pixel's class, (N, H, W), or None without class weights.

        Raises:
            ValueError: Shapes do not fit, there is one channel, labels are out of range, or there is not one weight a
                class.
            TypeError: The labels are not integers.
        """
        check_label_shape(pred, target)
        check_weight_shape(weight, target)
        ignore_index = NOTHING if ignore_index is None else ignore_index
        label = check_label_range(target.long(), pred.shape[1], ignore_index, self._reads)
        if self.class_weight is None:
            return label, ignore_index, None
        if len(self.class_weight) != pred.shape[1]:
            raise ValueError(
                f'class_weight has {len(self.class_weight)} entries, but the logits have {pred.shape[1]} classes'
            )
        return label, ignore_index, class_weight_of(self.class_weight.to(pred.dtype), label, ignore_index)


class HardPixelLoss(BaseLabelLoss):
    """Base class of losses that keep a part of the pixels; ``kept_pixels`` says which.

    Args:
        **shared: Settings of ``BaseLabelLoss``.
    """

    @torch.no_grad()
    def kept_pixels(
        self, pred: Tensor | UpsampledLogits, target: Tensor, ignore_index: int | None = None, **kwargs
    ) -> Tensor:
        """Selects the pixels that a call with the same arguments keeps; for pictures.

        Args:
            pred: As ``forward`` takes it.
            target: As ``forward`` takes it.
            ignore_index: As ``forward`` takes it.
            **kwargs: Likewise; what has no part in the selection is not used.

        Returns:
            bool, (N, H, W); pixels that are not valid are not kept.
        """
        pred = full_precision(pred.detach())
        with without_autocast(pred.device):
            ignore_index = self.ignore_index if ignore_index is None else ignore_index
            label, ignore_index, class_weight = self.check(pred, target, None, ignore_index)
            pixel_loss = pixel_cross_entropy(pred, label, ignore_index)
            return self.select(pred, label, pixel_loss, class_weight, ignore_index, **kwargs)

    @abstractmethod
    def select(
        self,
        pred: Tensor | UpsampledLogits,
        label: Tensor,
        pixel_loss: Tensor,
        class_weight: Tensor | None,
        ignore_index: int,
        **kwargs,
    ) -> Tensor:
        """Selects pixels, (N, H, W), by their cross entropy (N, H, W); see ``kept_pixels``."""


def class_weight_tensor(class_weight: Sequence[float] | str | None) -> Tensor | None:
    """Returns class weights as a float32 tensor (C,).

    Args:
        class_weight: The weights; or a JSON, YAML, pickle or ``.npy`` file that holds them, as mmseg takes it; or None.

    Raises:
        ValueError: They are not a list of finite, non-negative numbers.
    """
    if class_weight is None:
        return None
    source = class_weight
    if isinstance(class_weight, str):
        class_weight = np.load(class_weight) if class_weight.endswith('.npy') else load(class_weight)
    weights = torch.as_tensor(class_weight, dtype=torch.float32)
    if weights.dim() != 1 or not bool(((weights >= 0) & weights.isfinite()).all()):
        raise ValueError(f'class_weight must be a list of finite, non-negative numbers, one a class, got {source}')
    return weights
