"""Focal and dice loss of masks on all pixels, with the logits upsampled block by block.

Papers: DETR (ECCV 2020), MaskFormer (NeurIPS 2021). Released code: detr's segmentation.py, MaskFormer's criterion.py,
which upsample all logits, then keep half a dozen tensors of that size for the backward pass. ``mask_losses.py`` gives
the formulas.

Deliberate differences: a mask is worked on a few rows at a time, small enough for the processor's cache. The values
and the gradient to the low-resolution logits come out of the same pass, so that nothing of the masks' size is kept:
the dice loss is a ratio of sums, and its gradient q (a t + b) with q = p (1 - p) is known but for the numbers a and
b, so q and q t are brought to low resolution apart.

Letters: h w size of the logits, H W of the masks, n pairs worked on together, R rows, M pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmplugins.functional.device import empty_buffer, zeros_buffer
from mmplugins.functional.masks.cpu import Resizer
from mmplugins.functional.masks.formulas import binary_focal_dice, dice_of_sums, soft_focal_dice
from mmplugins.functional.masks.ignored import Ignored
from mmplugins.functional.masks.pairs import LEFT_OUT, MaskLogits, MaskPairs, pair_maps
from mmplugins.functional.masks.sampled_logits import flat_rows

_CPU_PIXELS, _PIXELS = 1 << 16, 1 << 24  # worked on at once, on the CPU and elsewhere; at least one mask


class FocalDice(NamedTuple):
    """Losses of every pair and their gradients.

    Attributes:
        values: Focal and dice loss, (2, M).
        slopes: Their gradients to the logits of the pair, (2, M, h, w), or None.
    """

    values: Tensor
    slopes: Tensor | None


def dense_focal_dice(
    mask_logits: MaskLogits,
    masks: Sequence[Tensor],
    pairs: MaskPairs,
    ignored: Sequence[Ignored | None],
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> tuple[Tensor, Tensor]:
    """Computes the sigmoid focal loss, the mean over a mask's pixels, and the dice loss of each pair.

    Args:
        mask_logits: (L, B, Q, h, w), or L tensors (B, Q, h, w).
        masks: (G, H, W) of each image; bool, integer 0 and 1, or floating in [0, 1].
        pairs: Which logits are compared with which masks.
        ignored: For each image what takes no part, or None.
        alpha: Weight of the foreground, 1 - alpha that of the background.
        gamma: Exponent of the focal loss.

    Returns:
        Two tensors (M,), ordered as the pairs.
    """
    layers = [mask_logits] if isinstance(mask_logits, Tensor) else list(mask_logits)
    with_grad = torch.is_grad_enabled() and any(layer.requires_grad for layer in layers)
    found = focal_dice_slopes(mask_logits, masks, pairs, ignored, alpha, gamma, with_grad)
    if not with_grad:
        return tuple(found.values)
    if isinstance(mask_logits, Tensor):
        return tuple(_Attached.apply(mask_logits, *found, pairs.layer, pairs.image, pairs.query))
    sizes = pairs.per_layer
    parts = zip(found.values.split(sizes, 1), found.slopes.split(sizes, 1), strict=True)
    rows = zip(pairs.image.split(sizes), pairs.query.split(sizes), strict=True)
    attached = [_Attached.apply(layer, *part, *row) for layer, part, row in zip(mask_logits, parts, rows, strict=True)]
    return tuple(torch.cat(attached, 1))


class _Attached(torch.autograd.Function):
    """Ties values, (k, M), to the logits by the gradients of each, (k, M, h, w)."""

    @staticmethod
    def forward(ctx, logits: Tensor, values: Tensor, slopes: Tensor, *rows: Tensor) -> Tensor:
        ctx.save_for_backward(slopes, *rows)
        ctx.shape, ctx.dtype = logits.shape, logits.dtype
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_values: Tensor) -> tuple[Tensor | None, ...]:
        slopes, *rows = ctx.saved_tensors
        grad = zeros_buffer(ctx.shape, ctx.dtype, slopes.device)
        flat, places = grad.view(-1, *ctx.shape[-2:]), flat_rows(rows, ctx.shape)
        step = 1 if grad.device.type == 'cpu' else max(len(places), 1)
        for start in range(0, len(places), step):
            part = slice(start, start + step)
            maps = (grad_values[:, part, None, None] * slopes[:, part]).sum(0)  # no product that autocast would round
            flat.index_add_(0, places[part], maps.to(ctx.dtype))
        return grad, None, None, *(None for _ in rows)


@torch.no_grad()
def focal_dice_slopes(
    mask_logits: MaskLogits,
    masks: Sequence[Tensor],
    pairs: MaskPairs,
    ignored: Sequence[Ignored | None],
    alpha: float,
    gamma: float,
    with_grad: bool = True,
) -> FocalDice:
    """Computes what ``dense_focal_dice`` returns, and its gradients; takes what it takes.

    1. For each pair and block of rows: upsample the logits, compute the sums of the losses and the fields that their
       gradients are made of, and bring these to low resolution.
    2. From the sums over the mask: the losses and their gradients.
    """
    layers = mask_logits if isinstance(mask_logits, Tensor) else mask_logits[0]
    size, device = layers.shape[-2:], layers.device
    dtype = torch.float64 if layers.dtype == torch.float64 else torch.float32
    values = torch.zeros(2, len(pairs.layer), dtype=dtype, device=device)
    slopes = empty_buffer((2, len(pairs.layer), *size), dtype, device) if with_grad else None
    resizers: dict[tuple, Resizer] = {}
    left_out = [None if one is None else one.left_out() for one in ignored]
    pixels = max([1, *(mask[0].numel() for mask in masks if len(mask))])
    at_once = _CPU_PIXELS if device.type == 'cpu' else _PIXELS
    for block in pairs.blocks(max(1, at_once // pixels)):
        image, places = block.image, block.places
        shape = tuple(masks[image].shape[1:])
        if shape not in resizers:
            resizers[shape] = Resizer(size, shape, dtype, device)
        maps = pair_maps(mask_logits, block, pairs.query, ignored[image])
        sums, fields = _sums_and_fields(  # step 1
            maps, masks[image], pairs.truth[places], left_out[image], resizers[shape], (alpha, gamma), with_grad
        )
        counted = shape[0] * shape[1] if left_out[image] is None else (~left_out[image]).sum()
        focal, both, prob, target = sums
        dice, by = dice_of_sums(both, prob, target)  # step 2
        if left_out[image] is not None:
            counted = counted.clamp(min=1)
        values[:, places] = torch.stack((focal / counted, dice))
        if with_grad:
            by_target, by_prob = by[:, :, None, None]
            grad_dice = fields[1].mul_(by_prob).addcmul_(fields[2], by_target)
            slopes[:, places] = torch.stack((fields[0] / counted, grad_dice))
    return FocalDice(values, slopes)


def _sums_and_fields(
    maps: Tensor,
    masks: Tensor,
    truth: Tensor,
    left_out: Tensor | None,
    resizer: Resizer,
    settings: tuple[float, float],
    with_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Computes the sums over each pair's mask and the fields of its gradients.

    Args:
        maps: Logits, (n, h, w).
        masks: All masks of the image, (G, H, W).
        truth: int64 (n,), which mask each pair is for.
        left_out: bool (H, W), True for pixels that take no part, or None.
        resizer: From (h, w) to (H, W).
        settings: alpha and gamma.
        with_grad: Whether the fields are wanted.

    Returns:
        Sums (4, n): of the focal loss, p t, p and t; and low-resolution fields (3, n, h, w): the gradient of the
        focal loss's sum, q and q t; or None.
    """
    if len(truth) == 1 and truth.device.type == 'cpu':  # the usual case of large masks: a view
        masks, pick = masks[int(truth)][None], None
    else:
        pick = truth
    wide, sums, total = resizer.widen(maps), maps.new_zeros(4, len(maps)), None
    binary = not masks.is_floating_point()
    for number, block in enumerate(resizer.blocks):
        logits = resizer.rows(wide, number)
        target = masks[:, block] if pick is None else masks[pick, block]
        target = (target != 0 if binary and target.dtype != torch.bool else target).to(maps.dtype)
        if left_out is not None:
            logits, target = logits.masked_fill_(left_out[block], LEFT_OUT), target.masked_fill(left_out[block], 0)
        formula = binary_focal_dice if binary else soft_focal_dice
        part, fields = formula(logits, target, *settings, with_grad)
        sums += part
        if with_grad:
            total = resizer.add_rows(total, fields, number)
    return sums, resizer.narrow(total) if with_grad else None
