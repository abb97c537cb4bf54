"""What the losses on binary masks share: shapes, the check of the mask, valid pixels, the mean over images."""

from abc import abstractmethod

import torch
from torch import Tensor

from mmplugins.functional.checks.binary_masks import as_maps, read_mask
from mmplugins.functional.checks.labels import check_weight_shape
from mmplugins.functional.pixels.reduction import reduce_loss
from mmplugins.functional.upsampled import UpsampledLogits

from .base import BaseLoss


class BaseRegionLoss(BaseLoss):
    """Base class of losses that compare one map an image with a binary mask.

    Args:
        loss_weight: Factor of the loss.
        ignore_index: Value of pixels of an integer mask that are not valid, unless the head passes its own; None: all
            pixels are valid.
        reduction: 'mean', 'sum' or 'none', unless a call overrides it.
        loss_name: Name in the log.

    Shape:
        - pred: logits (N, 1, H, W), any floating dtype; computed in float32.
        - target: mask (N, H, W) or (N, 1, H, W): bool; integer with the values 0, 1 and ``ignore_index``; or
          floating in [0, 1]. See ``read_mask`` for how an 8-bit mask is told from pixels that are not valid.
        - weight: how often each pixel counts (N, H, W); 0: not valid.
        - Returns the mean over the images that have a valid pixel, a scalar; one value an image, (N,), for
          reduction 'none'. If no pixel is valid it is 0 and attached to the graph.

    Raises:
        ValueError: Shapes that do not fit, or a mask with other values (on CUDA at one of the next calls).
        TypeError: Logits that are not floating.
    """

    takes_upsampled_logits = True  # so that LowResolutionLossHead may use it

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
        logits, mask = as_maps(pred, target)  # (N, H, W) both
        check_weight_shape(weight, mask)
        mask, count = read_mask(mask, ignore_index, self._reads)
        if weight is not None:
            count = weight if count is None else weight * count
        if count is None and not mask.numel():
            count = torch.ones_like(mask, dtype=torch.bool)  # an image without pixels has no valid one
        images = len(logits) if count is None else (count != 0).flatten(1).any(1).sum()
        return reduce_loss(self.per_image(logits, mask, count), reduction, images, avg_factor)

    @abstractmethod
    def per_image(self, logits: Tensor | UpsampledLogits, mask: Tensor, count: Tensor | None) -> Tensor:
        """Computes the loss of each image.

        Args:
            logits: float32 or float64, shape (N, H, W).
            mask: bool, or floating in [0, 1], shape (N, H, W).
            count: How often each pixel counts, bool or floating, shape (N, H, W); None: once.

        Returns:
            Shape (N,).
        """
