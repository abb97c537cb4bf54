"""Mask loss on all pixels.

Papers: DETR (ECCV 2020), MaskFormer (NeurIPS 2021); released code: detr's segmentation.py and detr.py,
``loss_masks``; MaskFormer's criterion.py and matcher.py. Deliberate differences: the upsampled logits never exist at
once; pixels can be ignored, which the released code cannot do.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmplugins.functional.device import full_precision
from mmplugins.functional.masks.dense import dense_focal_dice
from mmplugins.functional.masks.ignored import Ignored
from mmplugins.functional.masks.inputs import MaskInputs
from mmplugins.functional.sets.pairs import MatchedPairs
from mmplugins.registry import MODELS

from .mask_loss import BaseMaskLoss, Compared, Losses, MatchInputs, mean_over
from .toolbox import call_dice, call_elements


@MODELS.register_module()
class DenseMaskLoss(BaseMaskLoss):
    """Sigmoid focal loss and dice loss of masks, on all pixels.

    1. Upsample the logits to the masks' size, bilinear, corners not aligned.
    2. Focal loss, the mean over pixels, and dice loss 1 - (2 sum(p t) + 1) / (sum(p + t) + 1).
    3. Sum over the pairs, divided by ``avg_factor``.

    Ignored pixels, where ``valid`` is False, change nothing: neither they nor pixels upsampled from an ignored logit,
    one whose pixels are all ignored, count in any sum or mean.

    Args:
        alpha: Weight of the foreground in the focal loss; the background's is 1 - alpha.
        gamma: Exponent of the focal loss; 0 gives the weighted cross entropy.
        loss_mask: A registered loss's config instead of the focal loss; called as mmdet's MaskFormerHead does.
        loss_dice: A registered loss's config instead of the dice loss; called with logits and targets (M, H, W).

    Shape:
        - mask_logits: (M, h, w), any floating dtype; computed in float32 (float64 for float64).
        - masks: (M, H, W), bool, integer 0 and 1, or floating in [0, 1].
        - avg_factor: scalar; None: M.
        - valid: bool (H, W) or (M, H, W), False for ignored pixels.
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

    built_in = 'focal'

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
            masks: Masks of the objects, (M, H, W).
            avg_factor: What the sum over pairs is divided by.
            valid: False for ignored pixels.
        """
        return self.single_layer(mask_logits, masks, avg_factor, None, valid)

    def match_inputs(self, inputs: MaskInputs, match_coords: Tensor | None = None) -> MatchInputs:
        """Returns what the mask costs compare: the logits, and the masks' pixels next to them.

        As in MaskFormer's released code and in mmdet, masks are brought to the size of the logits by taking the
        nearest pixel.

        Args:
            inputs: What ``inputs`` returned.
            match_coords: Must be None: this loss compares pixels, not points.

        Returns:
            For each image ``pred`` (L, Q, h * w) logits, ``gt`` (L, G, h * w) and ``valid`` bool (L, h * w), or None.
        """
        _refuse_points('match_coords', match_coords)

        def open_image(image: int) -> Callable[[slice], Compared]:
            ignored = inputs.ignored[image]
            gt = nearest(inputs.masks[image], inputs.size).to(inputs.dtype).flatten(1)
            pixels = None if ignored is None else ~nearest(ignored.pixels[None], inputs.size).flatten()

            def compared(layers: slice) -> Compared:
                pred, valid = inputs.of_image(image, layers).to(inputs.dtype).flatten(2), None
                if pixels is not None:
                    pred = pred.masked_fill(~pixels, 0)  # not even a NaN there may matter
                    valid = pixels.expand(len(pred), -1)
                return {'pred': pred, 'gt': gt.expand(len(pred), -1, -1), 'valid': valid}

            return compared

        return MatchInputs(len(inputs.masks), open_image)

    def pair_losses(
        self,
        inputs: MaskInputs,
        pairs: MatchedPairs,
        avg_factor: Tensor | float,
        point_coords: Sequence[Tensor] | None,
    ) -> Losses:
        """Computes both losses of every layer, (L,) each; see ``layer_losses``."""
        _refuse_points('point_coords', point_coords)
        losses = called = (None, None)
        if self.mask_weight is not None or self.dice_weight is not None:
            values = dense_focal_dice(inputs, pairs, self.alpha, self.gamma)
            losses = [
                torch.stack([mean_over(part, avg_factor) for part in value.split(pairs.per_layer)]) for value in values
            ]
        if self.mask_weight is None or self.dice_weight is None:
            called = self._call_losses(inputs, pairs, avg_factor)
        weights = (self.mask_weight, self.dice_weight)
        return tuple(
            theirs if weight is None else weight * ours
            for ours, theirs, weight in zip(losses, called, weights, strict=True)
        )

    def _call_losses(
        self, inputs: MaskInputs, pairs: MatchedPairs, avg_factor: Tensor | float
    ) -> Sequence[Tensor | None]:
        """Computes the losses given as configs, (L,) each, layer by layer on upsampled logits, as mmdet's head does."""
        layers = inputs.logits.unbind() if isinstance(inputs.logits, Tensor) else inputs.logits
        rows = [part.split(pairs.per_layer) for part in (pairs.image, pairs.query, pairs.object)]
        found = []
        for layer, counts, images, query, index in zip(layers, pairs.counts, *rows, strict=True):
            matched = layer[images, query].split(counts)
            parts = [
                _upsampled(logits, inputs.masks[image][one], inputs.ignored[image])
                for image, (logits, one) in enumerate(zip(matched, index.split(counts), strict=True))
                if len(one)
            ]
            if not parts:
                found.append([layer[:0].sum()] * 2)
                continue
            logits, target, valid = (torch.cat(part) for part in zip(*parts, strict=True))
            valid = valid if any(inputs.ignored) else None
            loss_mask = loss_dice = None
            if self.mask_weight is None:  # mmdet's focal loss takes one class, the foreground, as class 0
                elements, valid_elements = logits.reshape(-1, 1), None if valid is None else valid.flatten(1)
                loss_mask = call_elements(self.loss_mask, elements, 1 - target.flatten(1), valid_elements, avg_factor)
            if self.dice_weight is None:
                loss_dice = call_dice(self.loss_dice, logits, target, valid, avg_factor)
            found.append((loss_mask, loss_dice))
        return [None if None in values else torch.stack(values) for values in zip(*found, strict=True)]

    def extra_repr(self) -> str:
        """Shows the settings in ``print(model)``."""
        return f'alpha={self.alpha}, gamma={self.gamma}'


def _refuse_points(name: str, points: object) -> None:
    if points is not None:
        raise ValueError(
            f'DenseMaskLoss compares all pixels and takes no {name}; leave it None, or use PointSampledMaskLoss'
        )


def nearest(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Shrinks or enlarges maps (G, H, W) to a size by taking the nearest pixel, as F.interpolate does; (G, h, w)."""
    rows, columns = (
        F.interpolate(torch.arange(old, device=maps.device)[None, None].float(), new, mode='nearest')[0, 0].long()
        for old, new in zip(maps.shape[1:], size, strict=True)
    )
    return maps[:, rows[:, None], columns]


def _upsampled(logits: Tensor, target: Tensor, ignored: Ignored | None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns logits at the size of the masks, the masks as int64, and 1 for valid pixels; each (m, H, W)."""
    target = target.round().long() if target.is_floating_point() else target.long()
    logits = full_precision(logits)
    if ignored is not None:
        logits = logits.masked_fill(ignored.logits, 0)
    full = F.interpolate(logits[:, None], target.shape[1:], mode='bilinear', align_corners=False)[:, 0]
    if ignored is None:
        return full, target, torch.ones_like(full)
    return full, target, (~ignored.upsampled()).to(full.dtype).expand_as(full)
