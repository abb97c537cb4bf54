"""Cross entropy over the hardest share of each image's pixels.

Paper: AOT (NeurIPS 2021); released code: networks/layers/loss.py, ``CrossEntropyLoss``. Differences: a batch at
once, class weights, and at least one pixel however small the image.
"""

from collections.abc import Sequence

import torch
from mmengine.logging import MessageHub
from torch import Tensor

from mmplugins.functional.pixels.cross_entropy import pixel_cross_entropy
from mmplugins.functional.pixels.hard_pixels import topk_count
from mmplugins.functional.pixels.reduction import reduce_loss
from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.registry import MODELS

from .base import HardPixelLoss


@MODELS.register_module()
class TopKCrossEntropyLoss(HardPixelLoss):
    """Mean cross entropy over the hardest pixels of each image.

    1. The share of pixels falls linearly from all at step 0 to ``top_k_percent_pixels`` at
       ``hard_example_mining_step``.
    2. Each image keeps its k pixels of largest loss, k = int(share * H * W), at least 1. Pixels that are not valid are
       among them with loss 0, as in the released code.
    3. The loss is the mean over the kept pixels of all images.

    Args:
        top_k_percent_pixels: Final share of pixels, in (0, 1].
        hard_example_mining_step: Steps over which the share falls; 0 for the final share from the start.
        class_weight: Weight of each class, or a file that holds the list. It scales the pixel losses before the
            selection; the mean still divides by the number of kept pixels.
        loss_weight: Factor of the loss.
        ignore_index: Label of pixels that are not valid, unless the head passes its own; None: all are valid.
        reduction: 'mean', 'sum' or 'none', unless a call overrides it.
        loss_name: Name in the log.

    Shape:
        - pred: logits (N, C, H, W), C at least 2, any floating dtype; computed in float32.
        - target: integer class indices (N, H, W).
        - weight: factor of each pixel's loss after the selection (N, H, W).
        - step: training step for step 1, an int; None reads the runner's iteration from mmengine's MessageHub.
        - Returns a scalar; (N, H, W), 0 where not kept, for reduction 'none'. If no pixel is valid it is 0 and
          attached to the graph.

    Raises:
        ValueError: Settings out of range, shapes that do not fit, one channel, labels that are neither classes nor
            ``ignore_index`` (on CUDA at one of the next calls).
        TypeError: Logits that are not floating or labels that are not integers.
        RuntimeError: ``step`` is None and no runner is training.

    Examples:
        >>> import torch
        >>> loss = TopKCrossEntropyLoss(top_k_percent_pixels=0.5, hard_example_mining_step=0)
        >>> logits = torch.zeros(1, 2, 1, 2)
        >>> logits[0, 0, 0, 0] = 5.  # the first pixel is easy
        >>> round(float(loss(logits, torch.zeros(1, 1, 2, dtype=torch.long))), 4)
        0.6931
    """

    def __init__(
        self,
        *,
        top_k_percent_pixels: float = 0.15,
        hard_example_mining_step: int = 100000,
        class_weight: Sequence[float] | str | None = None,
        loss_weight: float = 1.0,
        ignore_index: int | None = 255,
        reduction: str = 'mean',
        loss_name: str = 'loss_topk',
    ) -> None:
        super().__init__(
            class_weight=class_weight,
            loss_weight=loss_weight,
            ignore_index=ignore_index,
            reduction=reduction,
            loss_name=loss_name,
        )
        if not 0 < top_k_percent_pixels <= 1:
            raise ValueError(f'top_k_percent_pixels is a share in (0, 1], got {top_k_percent_pixels}; 0.15 is usual')
        if hard_example_mining_step < 0:
            raise ValueError(
                f'hard_example_mining_step is a number of steps, 0 or more, got {hard_example_mining_step}'
            )
        self.top_k_percent_pixels = top_k_percent_pixels
        self.hard_example_mining_step = hard_example_mining_step

    def compute(
        self,
        pred: Tensor | UpsampledLogits,
        target: Tensor,
        weight: Tensor | None,
        avg_factor: Tensor | float | None,
        reduction: str,
        ignore_index: int | None,
        step: int | None = None,
        **kwargs,
    ) -> Tensor:
        """Computes the loss; see the class for the steps."""
        label, ignore_index, class_weight = self.check(pred, target, weight, ignore_index)
        pixel_loss = pixel_cross_entropy(pred, label, ignore_index)
        if class_weight is not None:
            pixel_loss = pixel_loss * class_weight

        pixels = pixel_loss.flatten(1)  # (N, HW)
        k = self._count(pixels.shape[1], step)  # step 1

        kept, index = pixels.topk(k, dim=1, sorted=False)  # step 2, (N, k)
        if weight is not None:
            kept = kept * weight.flatten(1).gather(1, index)
        if reduction == 'none':
            return torch.zeros_like(pixels).scatter(1, index, kept).view_as(pixel_loss)
        return reduce_loss(kept, reduction, kept.numel(), avg_factor)  # step 3

    def select(
        self,
        pred: Tensor | UpsampledLogits,
        label: Tensor,
        pixel_loss: Tensor,
        class_weight: Tensor | None,
        ignore_index: int,
        step: int | None = None,
        **kwargs,
    ) -> Tensor:
        """Selects pixels, steps 1 and 2; see ``kept_pixels``."""
        pixels = (pixel_loss if class_weight is None else pixel_loss * class_weight).flatten(1)  # (N, HW)
        _, index = pixels.topk(self._count(pixels.shape[1], step), dim=1, sorted=False)
        kept = torch.zeros_like(pixels, dtype=torch.bool).scatter_(1, index, True).view_as(label)
        return kept & (label != ignore_index)

    def _count(self, num_pixels: int, step: int | None) -> int:
        if self.hard_example_mining_step and step is None:
            step = current_iteration()
        return topk_count(step or 0, num_pixels, self.top_k_percent_pixels, self.hard_example_mining_step)

    def extra_repr(self) -> str:
        """Shows the settings in ``print(model)``."""
        return (
            f'top_k_percent_pixels={self.top_k_percent_pixels}, '
            f'hard_example_mining_step={self.hard_example_mining_step}, ' + super().extra_repr()
        )


@torch.compiler.disable
def current_iteration() -> int:
    """Reads the iteration of the runner that is training, or of the last one that was.

    Raises:
        RuntimeError: There is none.
    """
    iteration = MessageHub.get_current_instance().runtime_info.get('iter')
    if iteration is None:
        raise RuntimeError(
            'the hard-pixel share depends on the training step, and no mmengine Runner is training; '
            'pass step=<iteration> to the loss, or set hard_example_mining_step=0 for the final share at once'
        )
    return int(iteration)
