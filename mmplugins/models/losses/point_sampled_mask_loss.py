"""Mask loss on sampled points, most of them where the prediction is uncertain.

Paper: Mask2Former (CVPR 2022), after PointRend (CVPR 2020); released code: Mask2Former's criterion.py, ``loss_masks``,
and matcher.py. Deliberate differences: ground-truth masks are never copied as floats; all layers and images are
worked on together, grouped by ground truth; pixels can be left out, which the released code cannot.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmplugins.functional.device import empty_buffer
from mmplugins.functional.masks.formulas import bce_dice
from mmplugins.functional.masks.ignored import Ignored, find_ignored
from mmplugins.functional.masks.pairs import MaskLogits, MaskPairs, check_masks, pair_maps
from mmplugins.functional.masks.sampled_logits import (
    check_sampling,
    draw_points,
    grid_values,
    sample_into,
    sample_logits,
    sort_points,
    uncertain_points,
)
from mmplugins.functional.masks.sampled_masks import mask_sampler, sample_masks
from mmplugins.registry import MODELS

from .mask_loss import BaseMaskLoss, Losses, call_loss_dice, call_loss_mask, check_logits, check_valid, mean_over

_CPU_POINTS, _POINTS = 1 << 17, 1 << 25  # drawn at once, on the CPU, where they stay in its cache, and elsewhere


@MODELS.register_module()
class PointSampledMaskLoss(BaseMaskLoss):
    """Cross entropy and dice loss of masks, on points of each mask.

    1. Choose P points of each pair: of ``oversample_ratio * P`` drawn uniformly the ``importance_sample_ratio * P``
       of the smallest |logit|, the rest anywhere; or take those given.
    2. Interpolate the logits and the masks there; outside is 0.
    3. Binary cross entropy, the mean over a pair's points, and dice loss 1 - (2 sum(p t) + 1) / (sum(p + t) + 1).
    4. Sum over the pairs, divided by ``avg_factor``.

    Pixels left out by ``valid`` change nothing: a point made of an ignored pixel or of an ignored logit, one whose
    pixels are all ignored, is drawn last among the uncertain ones and has weight 0; means are over the others.

    Args:
        num_points: Number of points P of each pair, and of each image in the matching.
        oversample_ratio: How many points are drawn for each that is chosen, at least 1.
        importance_sample_ratio: Share of the points chosen by uncertainty, 0 to 1.
        loss_mask: A registered loss's config instead of the cross entropy; called as mmdet's Mask2FormerHead does, with
            logits and targets (M * P,) and ``avg_factor`` times P (and a weight (M * P,) if pixels are left out).
        loss_dice: A registered loss's config instead of the dice loss; called with logits and targets (M, P); points
            left out have the logit -10000 and the target 0.

    Shape:
        - mask_logits: (M, h, w), any floating dtype; computed in float32 (float64 for float64).
        - masks: (M, H, W), bool, integer 0 and 1, or floating in [0, 1].
        - avg_factor: scalar; None: M.
        - point_coords: (M, P, 2), x,y in units of the image, 0 to 1, any P; None: step 1.
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
        >>> losses = PointSampledMaskLoss(num_points=500)(torch.zeros(2, 16, 16), masks)
        >>> round(float(losses['loss_mask']), 4)
        0.6931
    """

    same_mask = (
        'CrossEntropyLoss',
        {'use_sigmoid': True, 'use_mask': False, 'reduction': 'mean', 'class_weight': None, 'ignore_index': None},
    )

    def __init__(
        self,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
        loss_mask: dict | nn.Module | None = None,
        loss_dice: dict | nn.Module | None = None,
    ) -> None:
        super().__init__(loss_mask, loss_dice)
        check_sampling(num_points, oversample_ratio, importance_sample_ratio)
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_sample_ratio = importance_sample_ratio

    def forward(
        self,
        mask_logits: Tensor,
        masks: Tensor,
        avg_factor: Tensor | float | None = None,
        point_coords: Tensor | None = None,
        valid: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Computes the losses of M pairs; see the class for shapes and errors.

        Args:
            mask_logits: Logits, (M, h, w).
            masks: Ground-truth masks, (M, H, W).
            avg_factor: What the sum over pairs is divided by.
            point_coords: Where to compare them, (M, P, 2).
            valid: Pixels that take part.
            generator: Source of the draws, on the logits' device; None: torch's own.
        """
        return self.single_layer(mask_logits, masks, avg_factor, point_coords, valid, generator=generator)

    @torch.no_grad()
    def match_inputs(
        self,
        mask_logits: MaskLogits,
        masks: Sequence[Tensor],
        match_coords: Tensor | None = None,
        valid: Sequence[Tensor | None] | None = None,
        generator: torch.Generator | None = None,
    ) -> list[dict[str, Tensor | None]]:
        """Samples what the mask costs compare: points that all predictions and masks of an image and layer share.

        Args:
            mask_logits: (L, B, Q, h, w), or a list of L tensors (B, Q, h, w).
            masks: (G, H, W) of each image.
            match_coords: x,y in 0 to 1, (L, B, P, 2); None: drawn uniformly.
            valid: For each image bool (H, W), False where pixels take no part, or None.
            generator: Source of the draws, on the logits' device.

        Returns:
            For each image ``pred`` (L, Q, P) logits, ``gt`` (L, G, P) and ``valid`` bool (L, P), or None if all points
            take part; a single point in an image without masks.
        """
        layers = check_logits(mask_logits)
        images = layers[0].shape[0]
        check_masks(masks, images)
        check_valid(valid, masks)
        if match_coords is None:
            match_coords = draw_points((len(layers), images, self.num_points), layers[0], generator)
            match_coords = sort_points(match_coords, *layers[0].shape[-2:])
        elif match_coords.shape[:2] != (len(layers), images) or match_coords.shape[3:] != (2,):
            raise ValueError(
                f'expected match_coords ({len(layers)}, {images}, P, 2), a set of points for each layer and image, got '
                f'{tuple(match_coords.shape)}'
            )
        ignored = find_ignored(valid, images, layers[0].shape[-2:])
        dtype = torch.float64 if layers[0].dtype == torch.float64 else torch.float32
        found = []
        for image in range(images):
            points = match_coords[:, image].to(dtype)  # (L, P, 2)
            points = points if len(masks[image]) else points[:, :1]  # there is nothing to compare with
            truth = sample_masks(masks[image], points.flatten(0, 1)).view(len(masks[image]), *points.shape[:2])
            pred = empty_buffer((len(layers), layers[0].shape[1], points.shape[1]), dtype, layers[0].device)
            for values, layer, place in zip(pred, layers, points, strict=True):
                maps = layer[image] if ignored[image] is None else ignored[image].clear(layer[image].clone())
                sample_into(values, maps, place)
            valid_points = None if ignored[image] is None else ignored[image].take_part(points)
            found.append({'pred': pred, 'gt': truth.transpose(0, 1), 'valid': valid_points})
        return found

    def pair_losses(
        self,
        mask_logits: MaskLogits,
        masks: Sequence[Tensor],
        pairs: MaskPairs,
        avg_factor: Tensor | float,
        point_coords: Sequence[Tensor] | None,
        ignored: Sequence[Ignored | None],
        generator: torch.Generator | None = None,
    ) -> Losses:
        """Computes both losses of every layer, (L,) each; see ``layer_losses``."""
        points, logits, target, weight = self.sample_pairs(
            mask_logits, masks, pairs, point_coords, ignored, generator
        )  # steps 1 and 2
        if isinstance(mask_logits, Tensor):
            logits = sample_logits(mask_logits, points, (pairs.layer, pairs.image, pairs.query), logits)
            layers = logits.split(pairs.per_layer)
        else:
            rows = [part.split(pairs.per_layer) for part in (points, pairs.image, pairs.query, logits)]
            layers = [
                sample_logits(maps, point, (image, query), values)
                for maps, point, image, query, values in zip(mask_logits, *rows, strict=True)
            ]
        targets = target.split(pairs.per_layer)
        weights = [None] * len(layers) if weight is None else weight.split(pairs.per_layer)
        losses = [self.compare(*layer, avg_factor) for layer in zip(layers, targets, weights, strict=True)]
        return tuple(torch.stack(values) for values in zip(*losses, strict=True))

    @torch.no_grad()
    def sample_pairs(
        self,
        mask_logits: MaskLogits,
        masks: Sequence[Tensor],
        pairs: MaskPairs,
        point_coords: Sequence[Tensor] | None,
        ignored: Sequence[Ignored | None],
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Chooses points for every pair and samples there; steps 1 and 2.

        Returns:
            Points (M, P, 2), logits (M, P), targets (M, P) and, unless all points take part, weights (M, P).
        """
        layers = mask_logits if isinstance(mask_logits, Tensor) else mask_logits[0]
        given = None if point_coords is None else self._given_points(point_coords, pairs)
        num_points = self.num_points if given is None else given.shape[1]
        dtype = torch.float64 if layers.dtype == torch.float64 else torch.float32
        found = empty_buffer((4, len(pairs.layer), num_points), dtype, layers.device)
        points, (logits, target) = found[:2].permute(1, 2, 0), found[2:]  # x and y apart in memory
        weight = None if all(one is None for one in ignored) else torch.ones_like(logits)
        truths = [mask_sampler(mask, num_points * len(pairs.counts)) for mask in masks]
        at_once = _CPU_POINTS if layers.device.type == 'cpu' else _POINTS
        drawn = max(1, int(num_points * self.oversample_ratio))  # of a pair
        for block in pairs.blocks(max(1, at_once // drawn)):
            image, places = block.image, block.places
            left_out = ignored[image]
            maps = pair_maps(mask_logits, block, pairs.query, left_out)
            if given is None:
                chosen, values = uncertain_points(
                    maps,
                    self.num_points,
                    self.oversample_ratio,
                    self.importance_sample_ratio,
                    generator,
                    takes_part=None if left_out is None else left_out.take_part,
                )
            else:
                chosen = given[places].to(maps)
                values = grid_values(maps, chosen)
            points[places], logits[places] = chosen, values
            target[places] = truths[image](chosen, pairs.truth[places])
            if left_out is not None:
                weight[places] = left_out.take_part(chosen).to(dtype)
        return points, logits, target, weight

    def _given_points(self, point_coords: Sequence[Tensor], pairs: MaskPairs) -> Tensor:
        """Joins the given points of all layers, (M, P, 2)."""
        shapes = [tuple(points.shape) for points in point_coords]
        if [shape[0] for shape in shapes] != pairs.per_layer or any(shape[2:] != (2,) for shape in shapes):
            raise ValueError(
                f'expected point_coords (M, P, 2) for each layer, with M of {pairs.per_layer}, a row for each pair, '
                f'got {shapes}'
            )
        return torch.cat(list(point_coords))

    def compare(self, logits: Tensor, target: Tensor, weight: Tensor | None, avg_factor: Tensor | float) -> Losses:
        """Computes both losses of a layer's pairs at their points; steps 3 and 4.

        Args:
            logits: (M, P).
            target: (M, P).
            weight: 0 or 1 for each point, (M, P), or None.
            avg_factor: What the sum over pairs is divided by.

        Returns:
            Two scalars.
        """
        arguments = (logits, target, weight, avg_factor)
        if self.mask_weight is not None or self.dice_weight is not None:
            entropy, dice = bce_dice(logits, target, weight)
        if self.mask_weight is None:
            loss_mask = call_loss_mask(self.loss_mask, *arguments)
        else:
            loss_mask = self.mask_weight * mean_over(entropy, avg_factor)
        if self.dice_weight is None:
            return loss_mask, call_loss_dice(self.loss_dice, *arguments)
        return loss_mask, self.dice_weight * mean_over(dice, avg_factor)

    def extra_repr(self) -> str:
        """Shows the settings in ``print(model)``."""
        return (
            f'num_points={self.num_points}, oversample_ratio={self.oversample_ratio}, '
            f'importance_sample_ratio={self.importance_sample_ratio}'
        )
