"""Structure loss: cross entropy and soft IoU that stress the edge of a binary mask.

Paper: PFNet (CVPR 2021), the loss of the focus maps, after F3Net (AAAI 2020); released code: loss.py,
``structure_loss``. The released file's cross entropy is unweighted by a slip; variant 'released' keeps that, 'paper'
does not. F3Net's and PraNet's losses add 1 to intersection and union; PFNet's and this one do not.
"""

import torch
from torch import Tensor

from mmplugins.functional.checks.binary_masks import read_mask
from mmplugins.functional.pixels.regions import check_kernel_size, check_variant, edge_weight, structure_loss
from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.registry import MODELS

from .region_loss import BaseRegionLoss


@MODELS.register_module()
class StructureLoss(BaseRegionLoss):
    """Weighted binary cross entropy plus weighted soft IoU loss, pixels near the mask's edge weighted more.

    1. w = 1 + edge_weight * |avgpool(mask) - mask|, zeros padded and counted. Pixels that are not valid are background
       to their neighbours, with weight 0 themselves.
    2. Cross entropy: variant 'paper': sum(w bce) / sum(w) of each image; 'released': the plain mean over the pixels
       of the batch.
    3. Soft IoU loss of each image with w in intersection and union.
    4. The mean over images of the sum of both.

    With ``edge_weight=0``, and as many valid pixels in every image, the loss is that of ``BCEIoULoss``. See
    ``BaseRegionLoss`` for masks and errors.

    Args:
        kernel_size: Side of the averaging window in pixels, odd.
        edge_weight: Factor of the difference between a pixel and its surroundings.
        variant: 'paper' or 'released'.
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
        ValueError: Settings out of range, shapes that do not fit, or a mask with other values (on CUDA at one of the
            next calls).
        TypeError: Logits that are not floating.

    Examples:
        >>> import torch
        >>> mask = torch.zeros(1, 64, 64, dtype=torch.bool)
        >>> mask[:, 20:40, 20:40] = True
        >>> round(float(StructureLoss()(torch.zeros(1, 1, 64, 64), mask)), 4)
        1.4931
    """

    def __init__(
        self,
        *,
        kernel_size: int = 31,
        edge_weight: float = 5.0,
        variant: str = 'paper',
        loss_weight: float = 1.0,
        ignore_index: int | None = 255,
        reduction: str = 'mean',
        loss_name: str = 'loss_structure',
    ) -> None:
        super().__init__(loss_weight=loss_weight, ignore_index=ignore_index, reduction=reduction, loss_name=loss_name)
        if edge_weight < 0:
            raise ValueError(f'edge_weight must not be negative, got {edge_weight}; 0 weighs all pixels the same')
        self.kernel_size = check_kernel_size(kernel_size)
        self.edge_weight = edge_weight
        self.variant = check_variant(variant)

    def per_image(self, logits: Tensor | UpsampledLogits, mask: Tensor, count: Tensor | None) -> Tensor:
        """Computes the loss of each image, (N,)."""
        return structure_loss(logits, mask, count, self.kernel_size, self.edge_weight, self.variant)

    @torch.no_grad()
    def pixel_weight(self, target: Tensor, ignore_index: int | None = None) -> Tensor:
        """Weighs pixels as a call with the same mask does, step 1; for pictures.

        Args:
            target: As ``forward`` takes it.
            ignore_index: As ``forward`` takes it.

        Returns:
            Shape (N, H, W), 1 to 1 + ``edge_weight``; 0 where a pixel is not valid.
        """
        mask = target.squeeze(1) if target.dim() == 4 else target  # (N, H, W)
        ignore_index = self.ignore_index if ignore_index is None else ignore_index
        mask, valid = read_mask(mask, ignore_index, self._reads)
        weight = edge_weight(
            mask.float() if valid is None else mask.float() * valid, self.kernel_size, self.edge_weight
        )
        return weight if valid is None else weight * valid

    def extra_repr(self) -> str:
        """Shows the settings in ``print(model)``."""
        return (
            f'kernel_size={self.kernel_size}, edge_weight={self.edge_weight}, variant={self.variant!r}, '
            + super().extra_repr()
        )
