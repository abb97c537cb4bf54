"""Mask loss on all pixels.

Papers: DETR (ECCV 2020), MaskFormer (NeurIPS 2021); released code: detr's segmentation.py and detr.py,
``loss_masks``; MaskFormer's criterion.py and matcher.py. Deliberate differences: the upsampled logits never exist at
once; pixels can be left out, which the released code cannot.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmplugins.functional.masks.dense import dense_focal_dice
from mmplugins.functional.masks.ignored import Ignored
from mmplugins.functional.masks.pairs import MaskLogits, MaskPairs, check_masks
from mmplugins.registry import MODELS

from .mask_loss import BaseMaskLoss, Losses, call_loss_dice, check_logits, check_valid, mean_over


@MODELS.register_module()
class DenseMaskLoss(BaseMaskLoss):
    """Sigmoid focal loss and dice loss of masks, on all pixels.

    1. Upsample the logits to the masks' size, bilinear, corners not aligned.
    2. Focal loss, the mean over pixels, and dice loss 1 - (2 sum(p t) + 1) / (sum(p + t) + 1).
    3. Sum over the pairs, divided by ``avg_factor``.

    Pixels left out by ``valid`` change nothing: neither they nor pixels upsampled from an ignored logit, one whose
    pixels are all ignored, count in any sum or mean.

    Args:
        alpha: Weight of the foreground in the focal loss; the background's is 1 - alpha.
        gamma: Exponent of the focal loss; 0 gives the weighted cross entropy.
        loss_mask: A registered loss's config instead of the focal loss; called as mmdet's MaskFormerHead does.
        loss_dice: A registered loss's config instead of the dice loss; called with logits and targets (M, H, W).

    Shape:
        - mask_logits: (M, h, w), any floating dtype; computed in float32 (float64 for float64).
        - masks: (M, H, W), bool, integer 0 and 1, or floating in [0, 1].
        - avg_factor: scalar; None: M.
        - valid: bool (H, W) or (M, H, W), False where pixels take no part.
        - Returns a dict of scalars ``loss_mask`` and ``loss_dice``; 0 and attached to the graph if M is 0.

    Raises:
        ValueError: Settings out of range, shapes that do not fit, or masks with other values (on CUDA at one of the
            next calls).
        TypeError: Logits that are not floating.

    Examples:
        >>> import torch
        >>> masks = torch.zeros(2, 64, 64, dtype=torch.bool)
        >>> masks[:, 16:48, 16:48] = True
        >>> losses = DenseMaskLoss()(torch.zeros(2, 16, 16), masks)
        >>> {name: round(float(value), 3) for name, value in losses.items()}
        {'loss_mask': 0.108, 'loss_dice': 0.666}
    """

    same_mask = ('FocalLoss', {'use_sigmoid': True, 'activated': False, 'reduction': 'mean'})

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        loss_mask: dict | nn.Module | None = None,
        loss_dice: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(loss_mask, loss_dice)
        if loss_mask is not None and self.mask_weight is not None:
            alpha, gamma = self.loss_mask.alpha, self.loss_mask.gamma
        if not 0 <= alpha <= 1:
            raise ValueError(f'alpha is the share of the foreground, 0 to 1, got {alpha}; 0.25 is usual')
        if gamma < 0:
            raise ValueError(f'gamma must not be negative, got {gamma}; 0 gives the cross entropy')
        self.alpha = alpha
        self.gamma = gamma

    def forward(
        self,
        mask_logits: Tensor,
        masks: Tensor,
        avg_factor: Tensor | float | None = None,
        valid: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Computes the losses of M pairs; see the class for shapes and errors.

        Args:
            mask_logits: Logits, (M, h, w).
            masks: Ground-truth masks, (M, H, W).
            avg_factor: What the sum over pairs is divided by.
            valid: Pixels that take part.
        """
        return self.single_layer(mask_logits, masks, avg_factor, None, valid)

    @torch.no_grad()
    def match_inputs(
        self,
        mask_logits: MaskLogits,
        masks: Sequence[Tensor],
        match_coords: Tensor | None = None,
        valid: Sequence[Tensor | None] | None = None,
    ) -> list[dict[str, Tensor | None]]:
        """Gives what the mask costs compare: the logits, and the masks' pixels next to them.

        As in MaskFormer's released code and in mmdet, masks are brought to the size of the logits by taking the
        nearest pixel.

        Args:
            mask_logits: (L, B, Q, h, w), or a list of L tensors (B, Q, h, w).
            masks: (G, H, W) of each image.
            match_coords: Not used: there are no points here.
            valid: For each image bool (H, W), False where pixels take no part, or None.

        Returns:
            For each image ``pred`` (L, Q, h * w) logits, ``gt`` (G, h * w) and ``valid`` bool (h * w,), or None.
        """
        layers = check_logits(mask_logits)
        check_masks(masks, layers[0].shape[0])
        check_valid(valid, masks)
        size = layers[0].shape[-2:]
        dtype = torch.float64 if layers[0].dtype == torch.float64 else torch.float32
        found = []
        for image, truth in enumerate(masks):
            if isinstance(mask_logits, Tensor):
                pred = mask_logits.detach()[:, image]
            else:
                pred = torch.stack([layer[image] for layer in layers])
            pred, gt = pred.to(dtype), nearest(truth, size).to(dtype)
            taking_part = None
            if valid is not None and valid[image] is not None:
                taking_part = nearest(valid[image][None], size)[0].bool()
                pred = pred.masked_fill(~taking_part, 0)  # not even a NaN there may matter
            found.append({'pred': pred, 'gt': gt, 'valid': taking_part})
        return found

    def pair_losses(
        self,
        mask_logits: MaskLogits,
        masks: Sequence[Tensor],
        pairs: MaskPairs,
        avg_factor: Tensor | float,
        point_coords: Sequence[Tensor] | None,
        ignored: Sequence[Ignored | None],
    ) -> Losses:
        """Computes both losses of every layer, (L,) each; see ``layer_losses``."""
        losses = [None, None]
        if self.mask_weight is not None or self.dice_weight is not None:
            values = dense_focal_dice(mask_logits, masks, pairs, ignored, self.alpha, self.gamma)
            losses = [
                torch.stack([mean_over(part, avg_factor) for part in value.split(pairs.per_layer)]) for value in values
            ]
        called = [None, None]
        if self.mask_weight is None or self.dice_weight is None:
            called = self._call_losses(mask_logits, masks, pairs, avg_factor, ignored)
        weights = (self.mask_weight, self.dice_weight)
        return tuple(
            theirs if weight is None else weight * ours
            for ours, theirs, weight in zip(losses, called, weights, strict=True)
        )

    def _call_losses(
        self,
        mask_logits: MaskLogits,
        masks: Sequence[Tensor],
        pairs: MaskPairs,
        avg_factor: Tensor | float,
        ignored: Sequence[Ignored | None],
    ) -> Sequence[Tensor | None]:
        """Computes the losses given as configs, (L,) each, layer by layer on upsampled logits, as mmdet's head does."""
        mask_logits = mask_logits.unbind() if isinstance(mask_logits, Tensor) else mask_logits
        rows = [part.split(pairs.per_layer) for part in (pairs.image, pairs.query, pairs.truth)]
        found = []
        for layer, counts, images, query, truth in zip(mask_logits, pairs.counts, *rows, strict=True):
            matched = layer[images, query].split(counts)
            parts = [
                _upsampled(logits, masks[image][index], ignored[image])
                for image, (logits, index) in enumerate(zip(matched, truth.split(counts), strict=True))
                if len(index)
            ]
            if not parts:
                found.append([layer[:0].sum()] * 2)
                continue
            logits, target, weight = (torch.cat(part) for part in zip(*parts, strict=True))
            found.append(self._call_layer(logits, target, weight if any(ignored) else None, avg_factor))
        return [None if None in values else torch.stack(values) for values in zip(*found, strict=True)]

    def _call_layer(
        self, logits: Tensor, target: Tensor, weight: Tensor | None, avg_factor: Tensor | float
    ) -> tuple[Tensor | None, Tensor | None]:
        """Calls the losses given as configs with logits, int64 targets and weights, (M, H, W) each."""
        loss_mask = loss_dice = None
        if self.mask_weight is None:
            factor, elements = avg_factor * target[0].numel(), logits.reshape(-1, 1)
            classes = 1 - target.flatten()  # the foreground is class 0
            if weight is None:
                loss_mask = self.loss_mask(elements, classes, avg_factor=factor)
            else:
                weight = weight * (target[0].numel() / weight.sum((1, 2), keepdim=True).clamp(min=1))
                loss_mask = self.loss_mask(elements, classes, weight.flatten(), avg_factor=factor)
        if self.dice_weight is None:
            loss_dice = call_loss_dice(self.loss_dice, logits, target, weight, avg_factor)
        return loss_mask, loss_dice

    def extra_repr(self) -> str:
        """Shows the settings in ``print(model)``."""
        return f'alpha={self.alpha}, gamma={self.gamma}'


def nearest(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Shrinks or enlarges maps (G, H, W) to a size by taking the nearest pixel, as F.interpolate does; (G, h, w)."""
    rows, columns = (
        F.interpolate(torch.arange(old, device=maps.device)[None, None].float(), new, mode='nearest')[0, 0].long()
        for old, new in zip(maps.shape[1:], size, strict=True)
    )
    return maps[:, rows[:, None], columns]


def _upsampled(logits: Tensor, target: Tensor, ignored: Ignored | None) -> tuple[Tensor, Tensor, Tensor]:
    """Gives logits at the size of the masks, the masks as int64, and 1 for pixels that take part; each (m, H, W)."""
    target = target.round().long() if target.is_floating_point() else target.long()
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if ignored is not None:
        logits = logits.masked_fill(ignored.logits, 0)
    full = F.interpolate(logits[:, None], target.shape[1:], mode='bilinear', align_corners=False)[:, 0]
    if ignored is None:
        return full, target, torch.ones_like(full)
    return full, target, (~ignored.left_out()).to(full.dtype).expand_as(full)
