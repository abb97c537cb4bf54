"""Focal and dice loss of masks on all pixels, the logits upsampled in blocks.

Paper: MaskFormer (NeurIPS 2021), DETR (ECCV 2020). Released code: criterion.py, ``loss_masks``; segmentation.py.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .mask_losses import dice_of_sums
from .mask_pairs import MaskPairs, ignored_logits, pair_maps
from .buffers import zeros_buffer


def pixel_participation(valid: Tensor | None, height: int, width: int) -> Tensor | None:
    """Tells which pixels take part, bool (H, W): not ignored, nor upsampled from an ignored logit; None: all."""
    if valid is None or (valid.device.type == 'cpu' and bool(valid.all())):
        return None
    cells = ignored_logits(valid, height, width)[None, None].float()
    touched = F.interpolate(cells, valid.shape, mode='bilinear', align_corners=False)[0, 0]
    return valid.bool() & (touched == 0)


def dense_focal_dice(
    mask_logits: Tensor,
    masks: Sequence[Tensor],
    pairs: MaskPairs,
    valid: Sequence[Tensor | None],
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> tuple[Tensor, Tensor]:
    """Computes the sigmoid focal loss, the mean over pixels, and the dice loss of each pair, (M,) each."""
    return _DenseFocalDice.apply(mask_logits, masks, pairs, valid, alpha, gamma)


class _DenseFocalDice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, mask_logits, masks, pairs, valid, alpha, gamma):
        size = mask_logits.shape[-2:]
        dtype = torch.float64 if mask_logits.dtype == torch.float64 else torch.float32
        number = len(pairs.layer)
        focal, dice = mask_logits.new_empty(2, number, dtype=dtype).unbind()
        slopes = mask_logits.new_empty(2, number, *size, dtype=dtype)
        for image, places in pairs.blocks():
            take = pixel_participation(valid[image], *size)
            for place in places.split(1):
                maps = pair_maps(mask_logits, pairs, image, place)
                target = masks[image][pairs.truth[place]].to(dtype)
                x = F.interpolate(maps[:, None], target.shape[1:], mode='bilinear', align_corners=False)[:, 0]
                weight = torch.ones_like(target) if take is None else take.to(dtype)[None]
                count = weight.sum((1, 2)).clamp(min=1)
                prob = x.sigmoid()
                entropy = F.softplus(x) - x * target
                miss = prob + target - 2 * prob * target
                a = alpha * target + (1 - alpha) * (1 - target)
                focal[place] = (a * miss**gamma * entropy * weight).sum((1, 2)) / count
                slope = a * (
                    gamma * miss ** (gamma - 1) * (1 - 2 * target) * prob * (1 - prob) * entropy
                    + miss**gamma * (prob - target)
                )
                slope = slope * weight / count
                value, by = dice_of_sums(
                    (prob * target * weight).sum((1, 2)), (prob * weight).sum((1, 2)), (target * weight).sum((1, 2))
                )
                dice[place] = value if take is None else value * (weight.sum((1, 2)) > 0)
                slope2 = (by[0][:, None, None] * target + by[1][:, None, None]) * weight * prob * (1 - prob)
                both = torch.stack((slope, slope2), 0)
                slopes[:, place] = torch.ops.aten.upsample_bilinear2d_backward(
                    both, list(target.shape[1:]), [2, len(place), *size], False, None, None
                )
        ctx.save_for_backward(slopes)
        ctx.pairs, ctx.shape, ctx.dtype = pairs, mask_logits.shape, mask_logits.dtype
        return focal, dice

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_focal, grad_dice):
        (slopes,) = ctx.saved_tensors
        grad = zeros_buffer(ctx.shape, ctx.dtype, slopes.device)
        both = slopes[0] * grad_focal[:, None, None] + slopes[1] * grad_dice[:, None, None]
        grad[ctx.pairs.layer, ctx.pairs.image, ctx.pairs.query] = both.to(ctx.dtype)
        return grad, None, None, None, None, None
