"""Soft Jaccard loss over the classes present in an image.

Paper: AOT (NeurIPS 2021); released code: networks/layers/loss.py, ``SoftJaccordLoss``. Difference: an image without
a valid pixel gives 0 instead of NaN.
"""

from torch import Tensor

from mmplugins.functional.pixels.reduction import reduce_loss
from mmplugins.functional.pixels.soft_jaccard import soft_jaccard_loss
from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.registry import MODELS

from .base import BaseLabelLoss


@MODELS.register_module()
class SoftJaccardLoss(BaseLabelLoss):
    """One minus the soft intersection over union, averaged over the classes present in each image.

    The union has no smoothing term. The mean of an image is over the classes that its valid pixels have.

    Args:
        loss_weight: Factor of the loss.
        ignore_index: Label of pixels that are not valid, unless the head passes its own; None: all are valid. Its
            logits must be finite all the same, or the loss is NaN.
        reduction: 'mean', 'sum' or 'none', unless a call overrides it.
        loss_name: Name in the log.

    Shape:
        - pred: logits (N, C, H, W), C at least 2, any floating dtype; computed in float32.
        - target: integer class indices (N, H, W).
        - weight: factor of each pixel in the sums of intersection and union (N, H, W).
        - Returns the mean over images, a scalar; one value an image, (N,), for reduction 'none'. If no pixel is
          valid it is 0 and attached to the graph.

    Raises:
        ValueError: Shapes that do not fit, one channel, labels that are neither classes nor ``ignore_index`` (on CUDA
            at one of the next calls).
        TypeError: Logits that are not floating or labels that are not integers.

    Examples:
        >>> import torch
        >>> logits = torch.zeros(1, 2, 1, 2)
        >>> float(SoftJaccardLoss()(logits, torch.zeros(1, 1, 2, dtype=torch.long)))  # I = 1, U = 2
        0.5
    """

    def __init__(
        self,
        *,
        loss_weight: float = 1.0,
        ignore_index: int | None = 255,
        reduction: str = 'mean',
        loss_name: str = 'loss_jaccard',
    ) -> None:
        super().__init__(loss_weight=loss_weight, ignore_index=ignore_index, reduction=reduction, loss_name=loss_name)

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
        """Computes the loss; see the class."""
        label, ignore_index, _ = self.check(pred, target, weight, ignore_index)
        loss = soft_jaccard_loss(pred, label, ignore_index, weight)  # (N,)
        return reduce_loss(loss, reduction, loss.numel(), avg_factor)
