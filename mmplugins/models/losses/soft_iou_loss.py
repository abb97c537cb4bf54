"""Soft IoU loss on binary masks.

Paper: PFNet (CVPR 2021); released code: loss.py, ``IOU``. Difference: finite where the ratio is 0/0.
"""

from torch import Tensor

from mmplugins.functional.pixels.regions import soft_iou_loss
from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.registry import MODELS

from .region_loss import BaseRegionLoss


@MODELS.register_module()
class SoftIoULoss(BaseRegionLoss):
    """One minus the soft intersection over union of foreground probability and mask, averaged over images.

    An image whose mask is empty has the loss 1 whatever is predicted, as in the released code; see
    ``BaseRegionLoss`` for shapes, masks and errors.

    Args:
        loss_weight: Factor of the loss.
        ignore_index: Value of pixels of an integer mask that are not valid, unless the head passes its own; None: all
            pixels are valid.
        reduction: 'mean', 'sum' or 'none', unless a call overrides it.
        loss_name: Name in the log.

    Shape:
        - pred: logits (N, 1, H, W), any floating dtype.
        - target: mask (N, H, W) or (N, 1, H, W), bool, integer (0, 1, ``ignore_index``) or floating in [0, 1].
        - weight: how often each pixel counts (N, H, W); 0: not valid.
        - Returns a scalar; (N,) for reduction 'none'. If no pixel is valid it is 0 and attached to the graph.

    Raises:
        ValueError: Shapes that do not fit, or a mask with other values (on CUDA at one of the next calls).
        TypeError: Logits that are not floating.

    Examples:
        >>> import torch
        >>> mask = torch.tensor([[[True, False]]])
        >>> float(SoftIoULoss()(torch.zeros(1, 1, 1, 2), mask))  # I = 1/2, U = 1 + 1 - 1/2
        0.6666666269302368
    """

    def __init__(
        self,
        *,
        loss_weight: float = 1.0,
        ignore_index: int | None = 255,
        reduction: str = 'mean',
        loss_name: str = 'loss_iou',
    ) -> None:
        super().__init__(loss_weight=loss_weight, ignore_index=ignore_index, reduction=reduction, loss_name=loss_name)

    def per_image(self, logits: Tensor | UpsampledLogits, mask: Tensor, count: Tensor | None) -> Tensor:
        """Computes the loss of each image, (N,)."""
        return soft_iou_loss(logits, mask, count)
