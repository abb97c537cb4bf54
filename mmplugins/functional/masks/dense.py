"""Focal and dice loss of masks on all pixels, with the logits upsampled block by block.

Papers: DETR (ECCV 2020), MaskFormer (NeurIPS 2021). Released code: detr's segmentation.py, MaskFormer's criterion.py,
which upsample all logits, then keep half a dozen tensors of that size for the backward pass. ``formulas.py`` has
the formulas.

Deliberate differences: a mask is worked on a few rows at a time, small enough for the processor's cache. The values
and the gradient to the low-resolution logits come out of the same pass, so that nothing of the masks' size is kept:
the dice loss is a ratio of sums, and its gradient q (a t + b) with q = p (1 - p) is known but for the numbers a and
b, so q and q t are brought to low resolution apart.

Letters: h w size of the logits, H W of the masks, n pairs worked on together, R rows, M pairs.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mmplugins.functional.device import at_once, cpu_kernels, empty_buffer, zeros_buffer
from mmplugins.functional.gradients import first_order
from mmplugins.functional.masks.formulas import binary_focal_dice, dice_of_sums, soft_focal_dice
from mmplugins.functional.masks.ignored import IGNORED_LOGIT
from mmplugins.functional.masks.inputs import MaskInputs
from mmplugins.functional.masks.sampled_logits import flat_rows
from mmplugins.functional.resizing import BandedResizer, PlainResizer
from mmplugins.functional.sets.pairs import MatchedPairs

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
    inputs: MaskInputs, pairs: MatchedPairs, alpha: float = 0.25, gamma: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Computes the sigmoid focal loss, the mean over a mask's pixels, and the dice loss of each pair.

    Args:
        inputs: Logits and masks.
        pairs: Which logits are compared with which masks.
        alpha: Weight of the foreground, 1 - alpha that of the background.
        gamma: Exponent of the focal loss.

    Returns:
        Two tensors (M,), ordered as the pairs.
    """
    is_tensor = isinstance(inputs.logits, Tensor)
    given = [inputs.logits] if is_tensor else list(inputs.logits)
    with_grad = torch.is_grad_enabled() and any(layer.requires_grad for layer in given)
    found = focal_dice_slopes(inputs, pairs, alpha, gamma, with_grad)
    if not with_grad:
        return tuple(found.values)
    if is_tensor:
        return tuple(_Attached.apply(inputs.logits, *found, pairs.layer, pairs.image, pairs.query))
    sizes = pairs.per_layer
    rows = (pairs.image.split(sizes), pairs.query.split(sizes))
    parts = zip(given, *(part.split(sizes, 1) for part in found), *rows, strict=True)
    return tuple(torch.cat([_Attached.apply(*part) for part in parts], 1))


class _Attached(torch.autograd.Function):
    """Ties values, (k, M), to the logits by the gradients of each, (k, M, h, w)."""

    @staticmethod
    def forward(ctx, logits: Tensor, values: Tensor, slopes: Tensor, *rows: Tensor) -> Tensor:
        ctx.save_for_backward(slopes, *rows)
        ctx.shape, ctx.dtype = logits.shape, logits.dtype
        return values.view_as(values)

    @staticmethod
    @first_order('dense_focal_dice')
    def backward(ctx, grad_values: Tensor) -> tuple[Tensor | None, ...]:
        slopes, *rows = ctx.saved_tensors
        grad = zeros_buffer(ctx.shape, ctx.dtype, slopes.device)
        flat, places = grad.view(-1, *ctx.shape[-2:]), flat_rows(rows, ctx.shape)
        step = at_once(grad, 1, len(places))
        for start in range(0, len(places), step):
            part = slice(start, start + step)
            maps = (grad_values[:, part, None, None] * slopes[:, part]).sum(0)  # no product that autocast would round
            flat.index_add_(0, places[part], maps.to(ctx.dtype))
        return grad, None, None, *(None for _ in rows)


@torch.no_grad()
def focal_dice_slopes(
    inputs: MaskInputs, pairs: MatchedPairs, alpha: float, gamma: float, with_grad: bool = True
) -> FocalDice:
    """Computes what ``dense_focal_dice`` returns, and its gradients; takes what it takes.

    1. For each pair and block of rows: upsample the logits, compute the sums of the losses and the fields that their
       gradients are made of, and bring these to low resolution.
    2. From the sums over the mask: the losses and their gradients.
    """
    values = torch.zeros(2, len(pairs.layer), dtype=inputs.dtype, device=inputs.device)
    slopes = empty_buffer((2, len(pairs.layer), *inputs.size), inputs.dtype, inputs.device) if with_grad else None
    resizers: dict[tuple, BandedResizer | PlainResizer] = {}
    ignored = [None if one is None else one.upsampled() for one in inputs.ignored]
    pixels = max([1, *(mask[0].numel() for mask in inputs.masks if len(mask))])
    for block in pairs.blocks(at_once(inputs.device, _CPU_PIXELS // pixels, _PIXELS // pixels)):
        masks, pixels_ignored, places = inputs.masks[block.image], ignored[block.image], block.places
        shape = tuple(masks.shape[1:])
        if shape not in resizers:
            kind = BandedResizer if cpu_kernels(inputs.device) else PlainResizer
            resizers[shape] = kind(inputs.size, shape, inputs.dtype)
        maps = inputs.pair_maps(block, pairs.query)
        (focal, both, prob, target), fields = _sums_and_fields(  # step 1
            maps, masks, pairs.object[places], pixels_ignored, resizers[shape], (alpha, gamma), with_grad
        )
        counted = masks[0].numel() if pixels_ignored is None else (~pixels_ignored).sum().clamp(min=1)
        dice, by = dice_of_sums(both, prob, target)  # step 2
        values[:, places] = torch.stack((focal / counted, dice))
        if with_grad:
            by_target, by_prob = by[:, :, None, None]
            grad_dice = fields[1].mul_(by_prob).addcmul_(fields[2], by_target)
            slopes[:, places] = torch.stack((fields[0] / counted, grad_dice))
    return FocalDice(values, slopes)


def _sums_and_fields(
    maps: Tensor,
    masks: Tensor,
    index: Tensor,
    ignored: Tensor | None,
    resizer: BandedResizer | PlainResizer,
    settings: tuple[float, float],
    with_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Computes the sums over each pair's mask and the fields of its gradients.

    Args:
        maps: Logits, (n, h, w).
        masks: All masks of the image, (G, H, W).
        index: int64 (n,), which mask each pair is for.
        ignored: bool (H, W), or None.
        resizer: From (h, w) to (H, W).
        settings: alpha and gamma.
        with_grad: Whether the fields are wanted.

    Returns:
        Sums (4, n): of the focal loss, p t, p and t; and low-resolution fields (3, n, h, w): the gradient of the
        focal loss's sum, q and q t; or None.
    """
    wide, sums, total = resizer.widen(maps), maps.new_zeros(4, len(maps)), None
    binary = not masks.is_floating_point()
    if len(index) == 1 and cpu_kernels(index):  # the usual case of large masks: a view
        masks, index = masks[int(index)][None], slice(None)
    for number, rows in enumerate(resizer.blocks):
        logits, target = resizer.rows(wide, number), masks[index, rows]
        target = (target != 0 if binary and target.dtype != torch.bool else target).to(maps.dtype)
        if ignored is not None:
            logits, target = logits.masked_fill_(ignored[rows], IGNORED_LOGIT), target.masked_fill(ignored[rows], 0)
        formula = binary_focal_dice if binary else soft_focal_dice
        part, fields = formula(logits, target, *settings, with_grad)
        sums += part
        if with_grad:
            total = resizer.add_rows(total, fields, number)
    return sums, resizer.narrow(total) if with_grad else None
