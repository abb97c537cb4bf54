"""Cross entropy of each pixel, for losses that keep a part of the pixels, and its weighted sum.

Both take logits of the labels' size, or ``UpsampledLogits``, of which they make a block of rows at a time: once in all
where the weights are known, once more for the gradient where the loss of each pixel is asked for. On CUDA they go to
the kernels of ``upsampled_triton.py`` where Triton is there.

Differences from ``torch.nn.functional.cross_entropy``: there is no second derivative; the backward pass makes one map
of the logits' size, and on the CPU, where most pixels were not kept, it computes the kept ones alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmplugins.functional.compat import is_compiling
from mmplugins.functional.device import cpu_kernels, without_autocast
from mmplugins.functional.gradients import first_order
from mmplugins.functional.upsampled import UpsampledLogits, over_blocks, triton_kernels


def pixel_cross_entropy(logits: Tensor | UpsampledLogits, label: Tensor, ignore_index: int) -> Tensor:
    """Computes the cross entropy of each pixel.

    Args:
        logits: Shape (N, C, H, W); or ``UpsampledLogits`` of that shape.
        label: int64, shape (N, H, W), each value a class or ``ignore_index``.
        ignore_index: Label of pixels that are not valid; their loss is 0.

    Returns:
        Shape (N, H, W).
    """
    if isinstance(logits, UpsampledLogits):
        return _UpsampledPixels.apply(logits.logits, label, ignore_index, logits.size, logits.align_corners)
    if is_compiling():  # the compiler fuses torch's own, and could not follow a choice of pixels
        return F.cross_entropy(logits, label, ignore_index=ignore_index, reduction='none')
    return _PixelCrossEntropy.apply(logits, label, ignore_index)


def summed_cross_entropy(
    logits: Tensor | UpsampledLogits, label: Tensor, ignore_index: int, share: Tensor | None = None
) -> Tensor:
    """Computes the sum of the cross entropy over the valid pixels.

    Args:
        logits: Shape (N, C, H, W); or ``UpsampledLogits`` of that shape.
        label: int64, shape (N, H, W), each value a class or ``ignore_index``.
        ignore_index: Label of pixels that are not valid.
        share: Factor of each pixel, shape (N, H, W); None: 1. No gradient flows to it.

    Returns:
        A scalar.
    """
    if not isinstance(logits, UpsampledLogits):
        pixels = pixel_cross_entropy(logits, label, ignore_index)
        return (pixels if share is None else pixels * share.detach()).sum()
    return _UpsampledSum.apply(logits.logits, label, share, ignore_index, logits.size, logits.align_corners)


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
            if not cpu_kernels(grad) or ignored.any():  # 0 times what is not finite would be NaN there
                grad.masked_fill_(ignored[:, None], 0)
        return grad.unflatten(2, ctx.size), None, None


class _UpsampledPixels(torch.autograd.Function):
    """The loss of each pixel of logits (N, C, h, w)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, logits: Tensor, label: Tensor, ignore_index: int, size: tuple[int, int], align_corners: bool
    ) -> Tensor:
        upsampled = UpsampledLogits(logits, size, align_corners)
        if kernels := triton_kernels(upsampled):
            loss, log_sum = kernels.pixel_losses(upsampled, label, ignore_index)
        else:
            loss, log_sum = _pixel_losses(upsampled, label, ignore_index)
        ctx.kernels = kernels
        ctx.save_for_backward(logits, label, log_sum)
        ctx.settings = ignore_index, size, align_corners
        return loss

    @staticmethod
    @first_order('pixel_cross_entropy')
    def backward(ctx: FunctionCtx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        logits, label, log_sum = ctx.saved_tensors
        ignore_index, size, align_corners = ctx.settings
        upsampled = UpsampledLogits(logits, size, align_corners)
        if ctx.kernels:
            grad = ctx.kernels.pixel_gradient(upsampled, label, ignore_index, log_sum, grad_loss)
            return grad, None, None, None, None

        def visit(image: int, rows: slice, x: Tensor) -> Tensor:
            index, ignored = _index(label[image, rows], ignore_index)
            share = grad_loss[image, rows].masked_fill(ignored, 0)[:, None]  # (R, 1, W)
            x.sub_(log_sum[image, rows][:, None]).exp_().mul_(share)
            return x.scatter_add_(1, index, -share)

        with without_autocast(logits.device):  # the state at the backward call is not forward's
            grad = over_blocks(upsampled, visit, with_grad=True)
        return grad, None, None, None, None


def _pixel_losses(logits: UpsampledLogits, label: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Returns the loss of each pixel and the logarithm of its softmax's denominator, (N, H, W) each."""
    loss, log_sum = (torch.empty(label.shape, dtype=logits.dtype, device=logits.device) for _ in range(2))

    def visit(image: int, rows: slice, x: Tensor) -> None:
        index, ignored = _index(label[image, rows], ignore_index)
        top, total, true = _softmax_parts(x, index)
        log_total = total.log_()
        torch.sub(log_total, true, out=loss[image, rows]).masked_fill_(ignored, 0)
        torch.add(log_total, top, out=log_sum[image, rows])

    over_blocks(logits, visit)
    return loss, log_sum


class _UpsampledSum(torch.autograd.Function):
    """The sum over all pixels of logits (N, C, h, w), and its gradient with it."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        logits: Tensor,
        label: Tensor,
        share: Tensor | None,
        ignore_index: int,
        size: tuple[int, int],
        align_corners: bool,
    ) -> Tensor:
        with_grad = ctx.needs_input_grad[0]
        upsampled = UpsampledLogits(logits, size, align_corners)
        if kernels := triton_kernels(upsampled):
            value, grad = kernels.summed_losses(upsampled, label, ignore_index, share, with_grad)
        else:
            value, grad = _summed_losses(upsampled, label, ignore_index, share, with_grad)
        if with_grad:
            ctx.save_for_backward(grad)
        return value.to(logits.dtype)

    @staticmethod
    @first_order('summed_cross_entropy')
    def backward(ctx: FunctionCtx, grad_value: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * grad_value, None, None, None, None, None


def _summed_losses(
    logits: UpsampledLogits, label: Tensor, ignore_index: int, share: Tensor | None, with_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Returns the sum of the losses times the shares, float64, and its gradient if it is asked for."""
    value = torch.zeros((), dtype=torch.float64, device=logits.device)

    def visit(image: int, rows: slice, x: Tensor) -> Tensor | None:
        index, ignored = _index(label[image, rows], ignore_index)
        part = (~ignored).to(x.dtype) if share is None else share[image, rows].masked_fill(ignored, 0)
        _, total, true = _softmax_parts(x, index)
        value.add_((total.log() - true).masked_fill_(ignored, 0).mul_(part).sum())
        if not with_grad:
            return None
        return x.mul_((part / total)[:, None]).scatter_add_(1, index, -part[:, None])

    return value, over_blocks(logits, visit, with_grad)


def _index(label: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Returns classes to gather, (R, 1, W), and which pixels are ignored, (R, W), of labels (R, W)."""
    ignored = label == ignore_index
    return label.masked_fill(ignored, 0)[:, None], ignored


def _softmax_parts(x: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Turns logits (R, C, W) into exp(logits - their largest), in place.

    Returns:
        The largest, the sum of the exponentials, and the true class's logit less the largest, (R, W) each.
    """
    top = x.amax(1, keepdim=True)
    true = x.sub_(top).gather(1, index).squeeze(1)
    return top.squeeze(1), x.exp_().sum(1), true
