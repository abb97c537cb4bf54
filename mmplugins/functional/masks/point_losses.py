"""Cross entropy and dice loss at sampled points, tied to the logits that were sampled.

Paper: Mask2Former (CVPR 2022); ``formulas.py`` has the formulas, ``sampled_logits.py`` says what a point is.

The losses of a pair are computed where its points are drawn, and of each point only that is kept which the gradient is
made of: where it is, the sigmoid of the logit, and what the target is made of. The backward pass works on a few pairs
at a time.

Letters: M pairs, P points of each.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmplugins.functional.gradients import first_order
from mmplugins.functional.masks.formulas import bce_dice_rows, bce_dice_slope
from mmplugins.functional.masks.product import product_of
from mmplugins.functional.masks.sampled_logits import gradient_of_maps
from mmplugins.functional.masks.sampled_masks import target_again


class PointSamples(NamedTuple):
    """Points of pairs and what was sampled there.

    Attributes:
        points: x,y in 0 to 1, (M, P, 2), x and y apart in memory.
        logits: Logits there, (M, P); their sigmoid where the losses were kept.
        kept: What ``target_again`` makes the masks' values of, a row for each pair.
        losses: Of each pair the cross entropy, the dice loss and three factors of their gradient, (M, 5).
        valid: bool (M, P), False for ignored points, or None.
        size: What ``target_again`` takes.
    """

    points: Tensor
    logits: Tensor
    kept: Tensor
    losses: Tensor
    valid: Tensor | None
    size: Sequence[int] | None

    def rows(self, part: slice) -> 'PointSamples':
        """Returns the samples of some pairs."""
        valid = None if self.valid is None else self.valid[part]
        return PointSamples(*(value[part] for value in self[:4]), valid, self.size)

    def keep_losses(self, values: Tensor, target: Tensor, weight: Tensor | None, places: slice | Tensor) -> None:
        """Computes the losses of some pairs, and keeps what ``tie_losses`` needs."""
        entropy, dice, self.logits[places], factors = bce_dice_rows(values, target, weight)
        self.losses[places] = torch.cat((torch.stack((entropy, dice)), factors)).T

    @property
    def target(self) -> Tensor:
        """Values of the masks, (M, P)."""
        return target_again(self.kept, self.points, self.size)

    @property
    def weight(self) -> Tensor | None:
        """1 for each valid point and 0 for each ignored one, (M, P), or None if all are valid."""
        return None if self.valid is None else self.valid.to(self.logits.dtype)


def tie_losses(logits: Tensor, samples: PointSamples, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Gives losses that were kept a gradient to the logits.

    Args:
        logits: Any floating dtype, (..., h, w).
        samples: What was sampled from them, and the losses.
        rows: Which map each pair is for: an int64 (M,) for each axis before h, w.

    Returns:
        Cross entropy and dice loss, (M,) each.
    """
    return _PointLosses.apply(logits, *samples, *rows)


class _PointLosses(torch.autograd.Function):
    """Ties losses that are known to the logits they come from."""

    @staticmethod
    def forward(ctx, logits: Tensor, *given: Tensor | Sequence[int] | None) -> tuple[Tensor, Tensor]:
        samples, rows = PointSamples(*given[:6]), given[6:]
        ctx.save_for_backward(*samples[:5], *rows)
        ctx.size, ctx.number = samples.size, len(given)
        ctx.shape, ctx.dtype, ctx.product = logits.shape, logits.dtype, product_of(logits)
        return samples.losses[:, 0].clone(), samples.losses[:, 1].clone()

    @staticmethod
    @first_order('PointSampledMaskLoss')
    def backward(ctx, grad_entropy: Tensor, grad_dice: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        samples, rows = PointSamples(*saved[:5], ctx.size), saved[5:]

        def slope(part: slice) -> Tensor:
            some = samples.rows(part)
            factors = some.losses[:, 2:].T
            return bce_dice_slope(some.logits, some.target, some.weight, factors, grad_entropy[part], grad_dice[part])

        return gradient_of_maps(ctx, slope, samples.points, rows), *(None for _ in range(ctx.number))
