"""Soft Jaccard (IoU) loss over the classes present.

Paper: AOT (NeurIPS 2021). Released code: networks/layers/loss.py, ``SoftJaccordLoss``, a Tversky index with
alpha = beta = 1 and no smoothing. Differences: all classes and images at once; sums of large images keep float32's
precision; the gradient is written by hand, so that there is no second derivative.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmplugins.functional.device import without_autocast
from mmplugins.functional.gradients import first_order
from mmplugins.functional.upsampled import UpsampledLogits, over_blocks

BLOCK = 8192  # pixels summed in float32 before the sums are added in float64


class _ClassSums(torch.autograd.Function):
    """Sums of p_c and of p_c g_c over the pixels, where p is the softmax and g the one-hot label."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, logits: Tensor, index: Tensor, share: Tensor
    ) -> tuple[Tensor, Tensor]:  # logits (N, C, P), index and share (N, P)
        prob = logits.softmax(1)
        ctx.save_for_backward(prob, index, share)
        blocks = zip(prob.split(BLOCK, 2), share[:, :, None].split(BLOCK, 1), strict=True)
        total = sum(torch.bmm(p, s).double() for p, s in blocks).squeeze(2)  # (N, C)
        true_prob = prob.gather(1, index[:, None]).squeeze(1)  # (N, P)
        true = torch.zeros_like(total).scatter_add_(1, index, (true_prob * share).double())  # (N, C)
        return total.to(prob.dtype), true.to(prob.dtype)

    @staticmethod
    @first_order('soft_jaccard_loss')
    def backward(ctx: FunctionCtx, grad_total: Tensor, grad_true: Tensor) -> tuple[Tensor, None, None]:
        # d/dp_c = share (grad_total_c + g_c grad_true_c), and through the softmax p_c (d/dp_c - sum_k p_k d/dp_k)
        prob, index, share = ctx.saved_tensors
        true_term = prob.gather(1, index[:, None]).squeeze(1) * grad_true.gather(1, index) * share  # (N, P)
        with without_autocast(prob.device):  # the state at the backward call is not forward's
            mean = torch.bmm(grad_total[:, None], prob).squeeze(1) * share + true_term  # (N, P)
        grad = grad_total[:, :, None] * share[:, None]  # (N, C, P)
        grad.sub_(mean[:, None]).mul_(prob).scatter_add_(1, index[:, None], true_term[:, None])
        return grad, None, None


class _UpsampledClassSums(torch.autograd.Function):
    """The same of logits (N, C, h, w), index and share (N, H, W), a block of rows at a time."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, logits: Tensor, index: Tensor, share: Tensor, size: tuple[int, int], align_corners: bool
    ) -> tuple[Tensor, Tensor]:
        total, true = (logits.new_zeros(logits.shape[:2], dtype=torch.float64) for _ in range(2))

        def visit(image: int, rows: slice, x: Tensor) -> None:
            prob, part, place = x.softmax(1), share[image, rows], index[image, rows]
            total[image] += torch.bmm(prob, part[:, :, None]).squeeze(2).double().sum(0)
            true_prob = prob.gather(1, place[:, None]).squeeze(1).mul_(part)
            true[image].scatter_add_(0, place.flatten(), true_prob.double().flatten())

        over_blocks(UpsampledLogits(logits, size, align_corners), visit)
        ctx.save_for_backward(logits, index, share)
        ctx.settings = size, align_corners
        return total.to(logits.dtype), true.to(logits.dtype)

    @staticmethod
    @first_order('soft_jaccard_loss')
    def backward(ctx: FunctionCtx, grad_total: Tensor, grad_true: Tensor) -> tuple[Tensor | None, ...]:
        logits, index, share = ctx.saved_tensors

        def visit(image: int, rows: slice, x: Tensor) -> Tensor:
            prob, part, place = x.softmax(1), share[image, rows], index[image, rows][:, None]
            true_term = prob.gather(1, place).squeeze(1).mul_(grad_true[image][place.squeeze(1)]).mul_(part)  # (R, W)
            mean = torch.matmul(grad_total[image], prob).mul_(part).add_(true_term)  # (R, W)
            field = torch.mul(grad_total[image][:, None], part[:, None], out=x)  # (R, C, W)
            return field.sub_(mean[:, None]).mul_(prob).scatter_add_(1, place, true_term[:, None])

        with without_autocast(logits.device):
            grad = over_blocks(UpsampledLogits(logits, *ctx.settings), visit, with_grad=True)
        return grad, None, None, None, None


def soft_jaccard_loss(
    logits: Tensor | UpsampledLogits, label: Tensor, ignore_index: int, weight: Tensor | None = None
) -> Tensor:
    """Computes 1 - I/U of each class present in an image, averaged over those classes.

    With p the softmax, g the one-hot label and sums over the valid pixels of one image,
    I_c = sum(p_c g_c) and U_c = sum(p_c) + sum(g_c) - I_c.

    Args:
        logits: Shape (N, C, H, W); or ``UpsampledLogits`` of that shape, of which a block of rows is made at a time.
        label: int64, shape (N, H, W).
        ignore_index: Label of pixels that are not valid.
        weight: Factor of each pixel in the sums, shape (N, H, W); no gradient flows to it.

    Returns:
        Loss of each image, shape (N,), in [0, 1]; 0 for an image without a valid pixel.
    """
    valid = label != ignore_index
    index = torch.where(valid, label, 0).flatten(1)  # (N, HW)
    share = (valid if weight is None else valid * weight.detach()).flatten(1).to(logits.dtype)  # (N, HW)
    if isinstance(logits, UpsampledLogits):
        maps = index.view_as(label), share.view(label.shape)
        sums = _UpsampledClassSums.apply(logits.logits, *maps, logits.size, logits.align_corners)
    else:
        sums = _ClassSums.apply(logits.flatten(2), index, share)
    prob_sum, intersection = sums  # (N, C) each
    # scatter_add sums one by one: float32 would lose 0.1 % over a large image
    size = torch.zeros_like(prob_sum, dtype=torch.float64).scatter_add(1, index, share.double()).to(prob_sum.dtype)

    present = size > 0
    union = prob_sum + size - intersection
    loss = 1 - intersection / torch.where(present, union, 1)
    return (loss * present).sum(1) / present.sum(1).clamp(min=1)
