"""Binary cross entropy plus soft IoU loss on binary masks.

Paper: PFNet (CVPR 2021), the loss of the positioning map; released code: train.py, ``bce_iou_loss``.
"""

from torch import Tensor

from mmplugins.functional.pixels.regions import bce_iou_loss
from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.registry import MODELS

from .region_loss import BaseRegionLoss


@MODELS.register_module()
class BCEIoULoss(BaseRegionLoss):
    """Binary cross entropy averaged over pixels plus soft IoU loss averaged over images.

    With reduction 'none' an image has its share of the cross entropy, such that the mean over the images is the mean
    over the pixels; see ``BaseRegionLoss`` for shapes, masks and errors.

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
        >>> round(float(BCEIoULoss()(torch.zeros(1, 1, 1, 2), mask)), 4)  # log(2) + 2/3
        1.3598
    """

    def __init__(
        self,
        *,
        loss_weight: float = 1.0,
        ignore_index: int | None = 255,
        reduction: str = 'mean',
        loss_name: str = 'loss_bce_iou',
    ) -> None:
        super().__init__(loss_weight=loss_weight, ignore_index=ignore_index, reduction=reduction, loss_name=loss_name)

    def per_image(self, logits: Tensor | UpsampledLogits, mask: Tensor, count: Tensor | None) -> Tensor:
        """Computes the loss of each image, (N,)."""
        return bce_iou_loss(logits, mask, count)
