"""Soft Jaccard loss over the classes present in an image.

Paper: AOT (NeurIPS 2021); released code: networks/layers/loss.py, ``SoftJaccordLoss``. Difference: an image without
a valid pixel gives 0 instead of NaN.
"""

from torch import Tensor

from mmplugins.functional.deferred import DeferredReads
from mmplugins.functional.labels import check_label_range, check_label_shape, check_weight_shape
from mmplugins.functional.reduction import reduce_loss
from mmplugins.functional.soft_jaccard import soft_jaccard_loss
from mmplugins.registry import MODELS

from .base import BaseLoss


@MODELS.register_module()
class SoftJaccardLoss(BaseLoss):
    """One minus the soft intersection over union, averaged over the classes present in each image.

    The union has no smoothing term. Classes that no valid pixel of an image has take no part in that image.

    Args:
        ignore_index: Label that takes no part, unless the head passes its own.
        loss_weight: Factor of the loss.
        loss_name: Name in the log.

    Shape:
        - pred: logits (N, C, H, W), any floating dtype; computed in float32.
        - target: integer class indices (N, H, W).
        - weight: factor of each pixel in the sums of intersection and union (N, H, W).
        - Returns the mean over images, a scalar; one value an image, (N,), for reduction 'none'. If every pixel is
          ignored it is 0 and attached to the graph.

    Raises:
        ValueError: Shapes that do not fit, labels that are neither classes nor ``ignore_index`` (on CUDA at one of
            the next calls).
        TypeError: Logits that are not floating or labels that are not integers.

    Examples:
        >>> import torch
        >>> logits = torch.zeros(1, 2, 1, 2)
        >>> float(SoftJaccardLoss()(logits, torch.zeros(1, 1, 2, dtype=torch.long)))  # I = 1, U = 2
        0.5
    """

    def __init__(
        self,
        ignore_index: int = 255,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_jaccard',
    ) -> None:
        super().__init__(loss_weight, loss_name, ignore_index)
        self._reads = DeferredReads()

    def compute(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None,
        avg_factor: Tensor | float | None,
        reduction: str,
        ignore_index: int,
        **kwargs,
    ) -> Tensor:
        """Computes the loss; see the class."""
        check_label_shape(pred, target)
        check_weight_shape(weight, target)
        label = check_label_range(target.long(), pred.shape[1], ignore_index, self._reads)
        loss = soft_jaccard_loss(pred, label, ignore_index, weight)  # (N,)
        return reduce_loss(loss, reduction, loss.numel(), avg_factor)
