"""Cross entropy over hard pixels (online hard example mining).

Paper: PSPNet (CVPR 2017) as trained by pytorch-segmentation-toolbox, loss/criterion.py (``CriterionOhemDSN``).
Deliberate differences from the released code: the search runs on the device, the share of kept pixels goes to the
log, and ``threshold_stride`` defaults to 1 (the released search uses 8). Differences from mmseg's
``OHEMPixelSampler`` with ``CrossEntropyLoss``: ``min_kept`` counts for the whole batch instead of an image, and the
loss is the mean over the kept pixels instead of all pixels.
"""

from collections.abc import Sequence

import torch
from mmengine.logging import MessageHub
from torch import Tensor

from mmplugins.functional.pixels.cross_entropy import pixel_cross_entropy
from mmplugins.functional.pixels.hard_pixels import HardPixels, ohem_pixels
from mmplugins.functional.pixels.reduction import reduce_loss
from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.registry import MODELS

from .base import HardPixelLoss


@MODELS.register_module()
class OhemCrossEntropyLoss(HardPixelLoss):
    """Mean cross entropy over the pixels whose true class has a probability of at most a threshold.

    1. A valid pixel is hard if the softmax probability of its true class is at most ``thresh``.
    2. If the batch has fewer than ``min_kept`` hard pixels, the threshold rises to the ``min_kept``-th smallest
       probability; if it has no more valid pixels than that, all are kept.
    3. The loss is the mean over the kept pixels; with class weights, the weighted mean of torch's cross entropy.

    The share of the valid pixels that is kept is logged through mmengine's MessageHub, without waiting for the device,
    as ``ohem_kept``, or ``mine_kept`` if ``loss_name`` is ``loss_mine``.

    In distributed training each rank has its own threshold and its own mean, from its own part of the batch, as the
    released code has: ``min_kept`` is a number per rank, and the averaged gradient is not that of one process with the
    whole batch unless every valid pixel is kept.

    Args:
        thresh: Probability in [0, 1] up to which a pixel is hard; 1 gives plain cross entropy.
        min_kept: Least number of pixels of the whole batch (of one rank) to keep, or, as a float in (0, 1), the
            least fraction of the valid pixels.
        threshold_stride: Above 1 the threshold is searched on a grid so many times coarser with
            ``min_kept // threshold_stride**2`` pixels, as the released code does with 8.
        class_weight: Weight of each class, or a file that holds the list. Selection goes by the unweighted
            probability.
        loss_weight: Factor of the loss.
        ignore_index: Label of pixels that are not valid, unless the head passes its own; None: all are valid.
        reduction: 'mean', 'sum' or 'none', unless a call overrides it.
        loss_name: Name in the log.

    Shape:
        - pred: logits (N, C, H, W), C at least 2, any floating dtype; computed in float32.
        - target: integer class indices (N, H, W).
        - weight: factor of each pixel's loss after the selection (N, H, W); it does not enter what the mean
          divides by.
        - Returns a scalar; (N, H, W), 0 where not kept, for reduction 'none'. If no pixel is valid it is 0 and
          attached to the graph.

    Raises:
        ValueError: Settings out of range, shapes that do not fit, one channel, or labels that are neither classes nor
            ``ignore_index`` (on CUDA at one of the next calls).
        TypeError: Logits that are not floating or labels that are not integers.

    Examples:
        >>> import torch
        >>> loss = OhemCrossEntropyLoss(thresh=0.7, min_kept=0.1)
        >>> logits = torch.zeros(1, 2, 1, 2)
        >>> logits[0, 0, 0, 0] = 5.  # the first pixel is easy
        >>> round(float(loss(logits, torch.zeros(1, 1, 2, dtype=torch.long))), 4)
        0.6931
    """

    def __init__(
        self,
        *,
        thresh: float = 0.7,
        min_kept: int | float = 100000,
        threshold_stride: int = 1,
        class_weight: Sequence[float] | str | None = None,
        loss_weight: float = 1.0,
        ignore_index: int | None = 255,
        reduction: str = 'mean',
        loss_name: str = 'loss_ohem',
    ) -> None:
        super().__init__(
            class_weight=class_weight,
            loss_weight=loss_weight,
            ignore_index=ignore_index,
            reduction=reduction,
            loss_name=loss_name,
        )
        if not 0 <= thresh <= 1:
            raise ValueError(f'thresh is a probability in [0, 1], got {thresh}; the usual value is 0.7')
        if isinstance(min_kept, float) and min_kept >= 1 and min_kept.is_integer():
            min_kept = int(min_kept)
        if min_kept < 0 or (isinstance(min_kept, float) and not 0 < min_kept < 1):
            raise ValueError(
                f'min_kept is a count of pixels of the whole batch or a fraction in (0, 1) of them, got {min_kept}'
            )
        if threshold_stride < 1 or int(threshold_stride) != threshold_stride:
            raise ValueError(f'threshold_stride is a positive integer, got {threshold_stride}; 1 searches all pixels')
        self.thresh = thresh
        self.min_kept = min_kept
        self.threshold_stride = int(threshold_stride)

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
        """Computes the loss; see the class for the steps."""
        label, ignore_index, class_weight = self.check(pred, target, weight, ignore_index)
        pixel_loss = pixel_cross_entropy(pred, label, ignore_index)
        hard = self._hard_pixels(pred.detach(), label, pixel_loss.detach(), ignore_index)  # steps 1 and 2
        if self.training:
            self._log(hard.kept_fraction)

        share = hard.kept.to(pred.dtype)  # step 3
        if class_weight is not None:
            share = share * class_weight
        count = share.sum()
        if weight is not None:
            share = share * weight
        return reduce_loss(pixel_loss * share, reduction, count, avg_factor)

    def select(
        self,
        pred: Tensor | UpsampledLogits,
        label: Tensor,
        pixel_loss: Tensor,
        class_weight: Tensor | None,
        ignore_index: int,
        **kwargs,
    ) -> Tensor:
        """Selects pixels, steps 1 and 2; see ``kept_pixels``."""
        return self._hard_pixels(pred, label, pixel_loss, ignore_index).kept

    def _hard_pixels(
        self, pred: Tensor | UpsampledLogits, label: Tensor, pixel_loss: Tensor, ignore_index: int
    ) -> HardPixels:
        return ohem_pixels(pred, label, pixel_loss, self.thresh, self.min_kept, self.threshold_stride, ignore_index)

    @torch.compiler.disable
    def _log(self, kept_fraction: Tensor) -> None:
        hub = MessageHub.get_current_instance()
        key = f'train/{self.loss_name.removeprefix("loss_")}_kept'
        self._reads.push(kept_fraction, lambda value: hub.update_scalar(key, value.item()))

    def extra_repr(self) -> str:
        """Shows the settings in ``print(model)``."""
        return (
            f'thresh={self.thresh}, min_kept={self.min_kept}, threshold_stride={self.threshold_stride}, '
            + super().extra_repr()
        )
