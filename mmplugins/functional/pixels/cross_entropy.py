"""Cross entropy of each pixel, for losses that keep a part of the pixels.

Differences from ``torch.nn.functional.cross_entropy``: there is no second derivative; the backward pass makes one map
of the logits' size, and on the CPU, where most pixels were not kept, it computes the kept ones alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmplugins.functional.compat import is_compiling
from mmplugins.functional.device import cpu_kernels
from mmplugins.functional.gradients import first_order


def pixel_cross_entropy(logits: Tensor, label: Tensor, ignore_index: int) -> Tensor:
    """Computes the cross entropy of each pixel.

    Args:
        logits: Shape (N, C, H, W).
        label: int64, shape (N, H, W), each value a class or ``ignore_index``.
        ignore_index: Label of pixels that are not valid; their loss is 0.

    Returns:
        Shape (N, H, W).
    """
    if is_compiling():  # the compiler fuses torch's own, and could not follow a choice of pixels
        return F.cross_entropy(logits, label, ignore_index=ignore_index, reduction='none')
    return _PixelCrossEntropy.apply(logits, label, ignore_index)


class _PixelCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, label: Tensor, ignore_index: int) -> Tensor:
        log_prob = logits.log_softmax(1).flatten(2)  # (N, C, P), P = H W
        ignored = (label == ignore_index).flatten(1)  # (N, P)
        index = label.flatten(1).masked_fill(ignored, 0)[:, None]  # (N, 1, P)
        ctx.save_for_backward(log_prob, index, ignored)
        ctx.size = label.shape[1:]
        loss = log_prob.gather(1, index).squeeze(1).neg().masked_fill_(ignored, 0)
        return loss.view_as(label)

    @staticmethod
    @first_order('pixel_cross_entropy')
    def backward(ctx: FunctionCtx, grad_loss: Tensor) -> tuple[Tensor, None, None]:
        # d loss / d logit_c = p_c - [c is the true class]
        log_prob, index, ignored = ctx.saved_tensors
        grad_loss = grad_loss.flatten(1).masked_fill(ignored, 0)  # (N, P)
        if cpu_kernels(grad_loss) and 2 * torch.count_nonzero(grad_loss) < grad_loss.numel():
            grad = torch.zeros_like(log_prob)
            for i, share in enumerate(grad_loss):
                place = share.nonzero().squeeze(1)  # (K,), the kept pixels
                share = share[place]
                part = log_prob[i].index_select(1, place).exp_().mul_(share)  # (C, K)
                part.scatter_add_(0, index[i][:, place], -share[None])
                grad[i].index_copy_(1, place, part)
        else:
            grad = log_prob.exp().mul_(grad_loss[:, None]).scatter_add_(1, index, -grad_loss[:, None])
        return grad.unflatten(2, ctx.size), None, None
