"""Focal loss with mmcv's arguments, on sigmoids and on a softmax.

Paper: Lin et al., Focal loss for dense object detection, ICCV 2017, equations 4 and 5. The formulas, with the smallest
float32 as lower bound of what a logarithm is taken of, are those of mmcv's kernels
(``ops/csrc/common/cuda/sigmoid_focal_loss_cuda_kernel.cuh``). Difference: float16 and bfloat16 are computed in float32.

Letters: N samples, C classes.
"""

import torch
from torch import Tensor

from mmplugins.functional.device import full_precision

_TINY = torch.finfo(torch.float32).tiny


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Computes the focal loss of each class, as mmcv's operator of this name.

    Args:
        input: (N, C), logits.
        target: (N,), int64, class of each sample; one outside 0 to C - 1 belongs to none.
        weight: (C,), weight of the samples of a class, or empty.
        output: (N, C); written.
        gamma: Exponent of the focusing factor.
        alpha: Weight of positives; negatives have 1 - alpha.
    """
    p, positive = _probability(input, target)
    loss_p = -alpha * (1 - p).pow(gamma) * _log(p)
    loss_n = -(1 - alpha) * p.pow(gamma) * _log(1 - p)
    output.copy_(_weighted(torch.where(positive, loss_p, loss_n), target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Computes the derivative of ``sigmoid_focal_loss_forward`` by its input.

    Args:
        input: (N, C).
        target: (N,).
        weight: (C,), or empty.
        grad_input: (N, C); written.
        gamma: Exponent of the focusing factor.
        alpha: Weight of positives.
    """
    p, positive = _probability(input, target)
    q = 1 - p
    grad_p = -alpha * q.pow(gamma) * (q - gamma * p * _log(p))
    grad_n = -(1 - alpha) * p.pow(gamma) * (gamma * q * _log(q) - p)
    grad_input.copy_(_weighted(torch.where(positive, grad_p, grad_n), target, weight))


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Computes the focal loss of each sample, as mmcv's operator of this name.

    Args:
        softmax: (N, C), probabilities.
        target: (N,), int64; the loss is 0 where it is negative.
        weight: (C,), or empty.
        output: (N,); written.
        gamma: Exponent of the focusing factor.
        alpha: Factor of the loss.
    """
    p = _picked(softmax, target)
    loss = -alpha * (1 - p).pow(gamma) * _log(p)
    output.copy_(_weighted(loss, target, weight).masked_fill_(target < 0, 0))


def softmax_focal_loss_backward(
    softmax: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Computes the derivative of ``softmax_focal_loss_forward`` by the logits.

    Args:
        softmax: (N, C), probabilities.
        target: (N,).
        weight: (C,), or empty.
        buff: (N,), derivative by the logarithm of the target's probability; written.
        grad_input: (N, C); written.
        gamma: Exponent of the focusing factor.
        alpha: Factor of the loss.
    """
    p = _picked(softmax, target)
    q = 1 - p
    grad = alpha * (gamma * q.pow(gamma - 1) * p * _log(p) - q.pow(gamma))
    buff.copy_(_weighted(grad, target, weight).masked_fill_(target < 0, 0))
    hit = target[:, None] == torch.arange(softmax.shape[1], device=target.device)
    grad_input.copy_(full_precision(buff)[:, None] * (hit.float() - full_precision(softmax)))


def _probability(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    classes = torch.arange(input.shape[1], device=input.device)
    return full_precision(input).sigmoid(), target[:, None] == classes


def _picked(softmax: Tensor, target: Tensor) -> Tensor:
    return full_precision(softmax).gather(1, target.clamp(min=0)[:, None])[:, 0]


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=_TINY).log()


def _weighted(loss: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    if weight.numel() == 0:
        return loss
    # mmcv's kernels read beside the weights where a sample has no class; it counts once here.
    known = (target >= 0) & (target < len(weight))
    factor = full_precision(weight)[target.clamp(0, len(weight) - 1)].masked_fill(~known, 1)
    return loss * factor.view(-1, *[1] * (loss.dim() - 1))
