"""Losses between a mask's logits and its target, closed form: cross entropy, sigmoid focal loss and dice.

Papers: MaskFormer (NeurIPS 2021), Mask2Former (CVPR 2022), DETR (ECCV 2020). Released code: their criterion.py and
segmentation.py, ``sigmoid_ce_loss``, ``sigmoid_focal_loss`` and ``dice_loss``.

With p the sigmoid of the logits x, t the target and n the number of elements that count:

- cross entropy: sum(softplus(x) - x t) / n
- focal loss: sum(a m^gamma (softplus(x) - x t)) / n with m = p + t - 2 p t, a = alpha t + (1 - alpha) (1 - t)
- dice loss: 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1)

Deliberate differences: elements of weight 0 count in no sum and no mean; where no other is left
the cross entropy or focal loss is 0 and the dice loss 0. The focal loss is exact for targets between 0 and 1 too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.device import cpu_kernels
from mmplugins.functional.gradients import first_order

_LEAST = -80.0  # below it float32 cannot hold the sigmoid


def bce_dice(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Computes the binary cross entropy and the dice loss of each row.

    Args:
        logits: float32 or float64, shape (M, P).
        target: Same dtype, in [0, 1], shape (M, P); no gradient flows to it.
        weight: How often each element counts, same dtype, shape (M, P); None: once.

    Returns:
        Cross entropy, the mean over a row's elements, (M,); dice loss, (M,).
    """
    return _BceDice.apply(logits, target, weight)


class _BceDice(torch.autograd.Function):
    """Value and closed-form gradient of ``bce_dice``; keeps the sigmoid and the target."""

    @staticmethod
    def forward(ctx, logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        entropy, dice, prob, factors = bce_dice_rows(logits, target, weight)
        ctx.save_for_backward(prob, target, weight, factors)
        return entropy, dice

    @staticmethod
    @first_order('bce_dice')
    def backward(ctx, grad_entropy: Tensor, grad_dice: Tensor) -> tuple[Tensor, None, None]:
        prob, target, weight, factors = ctx.saved_tensors
        return bce_dice_slope(prob, target, weight, factors, grad_entropy, grad_dice), None, None


def bce_dice_rows(logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Computes what ``bce_dice`` does, without a gradient.

    Returns:
        Cross entropy and dice loss, (M,) each; and what ``bce_dice_slope`` takes: the sigmoid of the logits, (M, P),
        and three factors of each row, (3, M).
    """
    entropy = F.softplus(logits).sub_(logits * target)
    prob = logits.sigmoid()
    if weight is not None:
        entropy, prob_sum = entropy.mul_(weight), torch.linalg.vecdot(prob, weight)
        target = target * weight
    else:
        prob_sum = prob.sum(1)
    counted = counted_elements(logits, weight)  # (M,) or a number
    dice, slopes = dice_of_sums(torch.linalg.vecdot(prob, target), prob_sum, target.sum(1))
    return entropy.sum(1) / counted, dice, prob, torch.cat((slopes, torch.ones_like(slopes[:1]) / counted))


def bce_dice_slope(
    prob: Tensor, target: Tensor, weight: Tensor | None, factors: Tensor, grad_entropy: Tensor, grad_dice: Tensor
) -> Tensor:
    """Computes the gradient of the logits.

    Args:
        prob: As ``bce_dice_rows`` returns it, (M, P).
        target: As there.
        weight: As there.
        factors: As it returns them, (3, M).
        grad_entropy: Gradient of the cross entropy, (M,).
        grad_dice: Gradient of the dice loss, (M,).
    """
    by_target, by_prob = factors[:2] * grad_dice  # (M,) each
    grad = (target * by_target[:, None]).add_(by_prob[:, None]).mul_(prob).mul_(1 - prob)
    grad.addcmul_(prob - target, (grad_entropy * factors[2])[:, None])
    return grad if weight is None else grad.mul_(weight)


def counted_elements(logits: Tensor, weight: Tensor | None) -> Tensor | int:
    """Number of elements of each row that count, at least 1: (M,), or a number if all do."""
    return max(logits.shape[1], 1) if weight is None else weight.sum(1).clamp(min=1)


def dice_of_sums(both: Tensor, prob: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the dice loss from sums over a mask.

    Args:
        both: Sum of p t, shape (M,).
        prob: Sum of p, shape (M,).
        target: Sum of t, shape (M,).

    Returns:
        The loss 1 - N / D with N = 2 sum(p t) + 1 and D = sum(p) + sum(t) + 1, (M,); and the two factors of its
        derivative to p at one element, by_target * t + by_prob, stacked (2, M): -2 / D and N / D^2.
    """
    denominator = prob + target + 1
    ratio = (2 * both + 1) / denominator
    return 1 - ratio, torch.stack((-2 / denominator, ratio / denominator))


def binary_focal_dice(
    logits: Tensor, target: Tensor, alpha: float, gamma: float, with_grad: bool = True
) -> tuple[Tensor, list[Tensor]]:
    """Computes the sums that the focal and dice loss of masks are made of, and the fields of their gradients.

    For a target of 0 and 1 the focal loss takes the probability r of the true class and m = 1 - r alone: it is
    -a m^gamma log(r), and its derivative to the logit (1 - alpha - t) m^gamma (m - gamma r log(r)).

    Args:
        logits: float32 or float64, shape (n, R, W).
        target: Same dtype, 0 or 1, shape (n, R, W).
        alpha: Weight of the foreground.
        gamma: Exponent.
        with_grad: Whether the fields are wanted.

    Returns:
        Sums of the focal loss, p t, p and t, (4, n); and three fields (n, R, W): the derivative of the focal loss's
        sum, q = p (1 - p), and q t.
    """
    signed = torch.addcmul(logits, logits, target, value=-2).neg_()  # positive where the prediction is right
    right = signed.sigmoid()
    if cpu_kernels(logits) and (not signed.numel() or float(signed.amin()) > _LEAST):
        log = right.log()
    else:
        log = F.logsigmoid(signed)
    miss = 1 - right
    power = _power(miss, gamma)
    loss = log.mul_(power)  # without -a
    total, both, number = _sum(miss), _dot(miss, target), _sum(target)
    focal = (alpha - 1) * _sum(loss) + (1 - 2 * alpha) * _dot(loss, target)
    sums = torch.stack((focal, number - both, total + number - 2 * both, number))
    if not with_grad:
        return sums, []
    slope = (power * miss).addcmul_(loss, right, value=-gamma).mul_(1 - alpha - target)
    spread = miss.mul_(right)
    return sums, [slope, spread, spread * target]


def soft_focal_dice(
    logits: Tensor, target: Tensor, alpha: float, gamma: float, with_grad: bool = True
) -> tuple[Tensor, list[Tensor]]:
    """Computes what ``binary_focal_dice`` does, for a target anywhere in [0, 1]."""
    prob = logits.sigmoid()
    entropy = F.softplus(logits).addcmul_(logits, target, value=-1)
    both = prob * target
    miss = (prob + target).sub_(both, alpha=2)
    weight = target * (2 * alpha - 1) + (1 - alpha)
    power = weight * _power(miss, gamma)
    sums = torch.stack((_dot(power, entropy), _sum(both), _sum(prob), _sum(target)))
    if not with_grad:
        return sums, []
    spread = torch.addcmul(prob, prob, prob, value=-1)
    spread_target = spread * target
    slope = (spread - 2 * spread_target).mul_(entropy).mul_(weight)
    # gamma m^(gamma - 1); at m = 0, where gamma < 1 makes it infinite, the entropy vanishes faster
    slope.mul_(gamma * _power(miss.clamp_(min=torch.finfo(miss.dtype).tiny), gamma - 1))
    return sums, [slope.addcmul_(power, prob - target), spread, spread_target]


def _power(base: Tensor, exponent: float) -> Tensor:
    """Raises to a power; 1 and 2, the usual ones, are quick."""
    if exponent == 1:
        return base
    return base * base if exponent == 2 else base.pow(exponent)


def _sum(x: Tensor) -> Tensor:
    """Sums each map, (n, R, W), to (n,)."""
    return x.sum((1, 2))


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Sums the products of two maps, (n, R, W), to (n,)."""
    return torch.linalg.vecdot(x.flatten(1), y.flatten(1))
