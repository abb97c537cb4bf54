"""Mask loss on sampled points, most of them where the prediction is uncertain.

Paper: Mask2Former (CVPR 2022), after PointRend (CVPR 2020); released code: Mask2Former's criterion.py, ``loss_masks``,
and matcher.py. Deliberate differences: masks are never copied as floats; all layers and images are worked on together;
pixels can be ignored, which the released code cannot do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmplugins.functional.device import at_once, empty_buffer
from mmplugins.functional.masks.cpu import sort_points
from mmplugins.functional.masks.formulas import bce_dice
from mmplugins.functional.masks.inputs import MaskInputs
from mmplugins.functional.masks.sampled_logits import (
    check_sampling,
    draw_points,
    grid_values,
    sample_into,
    sample_logits,
    uncertain_points,
)
from mmplugins.functional.masks.sampled_masks import mask_sampler, sample_masks
from mmplugins.functional.sets.pairs import MatchedPairs
from mmplugins.registry import MODELS

from .mask_loss import BaseMaskLoss, Losses, mean_over
from .toolbox import call_dice, call_elements

_CPU_POINTS, _POINTS = 1 << 17, 1 << 25  # drawn at once, on the CPU, where they stay in its cache, and elsewhere


@MODELS.register_module()
class PointSampledMaskLoss(BaseMaskLoss):
    """Cross entropy and dice loss of masks, on points of each mask.

    1. Choose P points of each pair: of ``oversample_ratio * P`` drawn uniformly the ``importance_sample_ratio * P``
       of the smallest |logit|, the rest anywhere; or take those given.
    2. Interpolate the logits and the masks there; outside is 0.
    3. Binary cross entropy, the mean over a pair's points, and dice loss 1 - (2 sum(p t) + 1) / (sum(p + t) + 1).
    4. Sum over the pairs, divided by ``avg_factor``.

    Ignored pixels, where ``valid`` is False, change nothing: a point made of one, or of an ignored logit, one whose
    pixels are all ignored, is drawn last among the uncertain ones and has weight 0; means are over the others.

    Args:
        num_points: Number of points P of each pair, and of each image in the matching.
        oversample_ratio: How many points are drawn for each that is chosen, at least 1.
        importance_sample_ratio: Share of the points chosen by uncertainty, 0 to 1.
        loss_mask: A registered loss's config instead of the cross entropy; called as mmdet's Mask2FormerHead does, with
            logits and targets (M * P,) and ``avg_factor`` times P (and a weight (M * P,) if pixels are ignored).
        loss_dice: A registered loss's config instead of the dice loss; called with logits and targets (M, P);
            ignored points have the logit -10000 and the target 0.

    Shape:
        - mask_logits: (M, h, w), any floating dtype; computed in float32 (float64 for float64).
        - masks: (M, H, W), bool, integer 0 and 1, or floating in [0, 1].
        - avg_factor: scalar; None: M.
        - point_coords: (M, P, 2), x,y in units of the image, 0 to 1, any P; None: step 1.
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
        >>> losses = PointSampledMaskLoss(num_points=500)(torch.zeros(2, 16, 16), masks)
        >>> round(float(losses['loss_mask']), 4)
        0.6931
    """

    built_in = 'binary_cross_entropy'

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
            masks: Masks of the objects, (M, H, W).
            avg_factor: What the sum over pairs is divided by.
            point_coords: Where to compare them, (M, P, 2).
            valid: False for ignored pixels.
            generator: Source of the draws, on the logits' device; None: torch's own.
        """
        return self.single_layer(mask_logits, masks, avg_factor, point_coords, valid, generator=generator)

    @torch.no_grad()
    def match_inputs(
        self, inputs: MaskInputs, match_coords: Tensor | None = None, generator: torch.Generator | None = None
    ) -> list[dict[str, Tensor | None]]:
        """Samples what the mask costs compare: points that all predictions and masks of an image and layer share.

        Args:
            inputs: What ``inputs`` returned.
            match_coords: x,y in 0 to 1, (L, B, P, 2); None: drawn uniformly.
            generator: Source of the draws, on the logits' device.

        Returns:
            For each image ``pred`` (L, Q, P) logits, ``gt`` (L, G, P) and ``valid`` bool (L, P), or None if all points
            are valid; a single point in an image without masks.
        """
        layers, images = inputs.layers, len(inputs.masks)
        if match_coords is None:
            match_coords = draw_points((len(layers), images, self.num_points), layers[0], generator)
            match_coords = sort_points(match_coords, *inputs.size)
        elif match_coords.shape[:2] != (len(layers), images) or match_coords.shape[3:] != (2,):
            raise ValueError(
                f'expected match_coords ({len(layers)}, {images}, P, 2), a set of points for each layer and image, got '
                f'{tuple(match_coords.shape)}'
            )
        found = []
        for image, (masks, ignored) in enumerate(zip(inputs.masks, inputs.ignored, strict=True)):
            points = match_coords[:, image].to(inputs.dtype)  # (L, P, 2)
            points = points if len(masks) else points[:, :1]  # there is nothing to compare with
            gt = sample_masks(masks, points.flatten(0, 1)).view(len(masks), *points.shape[:2])
            pred = empty_buffer((len(layers), layers[0].shape[1], points.shape[1]), inputs.dtype, inputs.device)
            for values, layer, place in zip(pred, layers, points, strict=True):
                sample_into(values, layer[image] if ignored is None else ignored.clear(layer[image].clone()), place)
            valid = None if ignored is None else ignored.valid_points(points)
            found.append({'pred': pred, 'gt': gt.transpose(0, 1), 'valid': valid})
        return found

    def pair_losses(
        self,
        inputs: MaskInputs,
        pairs: MatchedPairs,
        avg_factor: Tensor | float,
        point_coords: Sequence[Tensor] | None,
        generator: torch.Generator | None = None,
    ) -> Losses:
        """Computes both losses of every layer, (L,) each; see ``layer_losses``."""
        points, logits, target, valid = self.sample_pairs(inputs, pairs, point_coords, generator)  # steps 1 and 2
        sizes = pairs.per_layer
        if isinstance(inputs.logits, Tensor):
            logits = sample_logits(inputs.logits, points, (pairs.layer, pairs.image, pairs.query), logits)
            layers = logits.split(sizes)
        else:
            rows = [part.split(sizes) for part in (points, pairs.image, pairs.query, logits)]
            layers = [
                sample_logits(maps, point, (image, query), values)
                for maps, point, image, query, values in zip(inputs.logits, *rows, strict=True)
            ]
        valids = [None] * len(layers) if valid is None else valid.split(sizes)
        losses = [self.compare(*layer, avg_factor) for layer in zip(layers, target.split(sizes), valids, strict=True)]
        return tuple(torch.stack(values) for values in zip(*losses, strict=True))

    @torch.no_grad()
    def sample_pairs(
        self,
        inputs: MaskInputs,
        pairs: MatchedPairs,
        point_coords: Sequence[Tensor] | None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Chooses points for every pair and samples there; steps 1 and 2.

        Returns:
            Points (M, P, 2), logits (M, P), targets (M, P), and 1 for valid points, (M, P), or None if all are.
        """
        given = None if point_coords is None else _given_points(point_coords, pairs)
        num_points = self.num_points if given is None else given.shape[1]
        found = empty_buffer((4, len(pairs.layer), num_points), inputs.dtype, inputs.device)
        points, (logits, target) = found[:2].permute(1, 2, 0), found[2:]  # x and y apart in memory
        valid = None if all(one is None for one in inputs.ignored) else torch.ones_like(logits)
        samplers = [mask_sampler(masks, num_points * len(pairs.counts)) for masks in inputs.masks]
        drawn = max(1, int(num_points * self.oversample_ratio))  # of a pair
        settings = (self.num_points, self.oversample_ratio, self.importance_sample_ratio, generator)
        for block in pairs.blocks(at_once(inputs.device, _CPU_POINTS // drawn, _POINTS // drawn)):
            ignored, places = inputs.ignored[block.image], block.places
            maps = inputs.pair_maps(block, pairs.query)
            if given is None:
                valid_points = None if ignored is None else ignored.valid_points
                chosen, values = uncertain_points(maps, *settings, valid_points=valid_points)
            else:
                chosen = given[places].to(maps)
                values = grid_values(maps, chosen)
            points[places], logits[places] = chosen, values
            target[places] = samplers[block.image](chosen, pairs.object[places])
            if ignored is not None:
                valid[places] = ignored.valid_points(chosen).to(inputs.dtype)
        return points, logits, target, valid

    def compare(self, logits: Tensor, target: Tensor, valid: Tensor | None, avg_factor: Tensor | float) -> Losses:
        """Computes both losses of a layer's pairs at their points; steps 3 and 4.

        Args:
            logits: (M, P).
            target: (M, P).
            valid: 1 for each valid point and 0 for each ignored one, (M, P), or None.
            avg_factor: What the sum over pairs is divided by.

        Returns:
            Two scalars.
        """
        arguments = (logits, target, valid, avg_factor)
        if self.mask_weight is not None or self.dice_weight is not None:
            entropy, dice = bce_dice(logits, target, valid)
        if self.mask_weight is None:
            loss_mask = call_elements(self.loss_mask, *arguments)
        else:
            loss_mask = self.mask_weight * mean_over(entropy, avg_factor)
        if self.dice_weight is None:
            return loss_mask, call_dice(self.loss_dice, *arguments)
        return loss_mask, self.dice_weight * mean_over(dice, avg_factor)

    def extra_repr(self) -> str:
        """Shows the settings in ``print(model)``."""
        return (
            f'num_points={self.num_points}, oversample_ratio={self.oversample_ratio}, '
            f'importance_sample_ratio={self.importance_sample_ratio}'
        )


def _given_points(point_coords: Sequence[Tensor], pairs: MatchedPairs) -> Tensor:
    """Joins the given points of all layers, (M, P, 2)."""
    shapes = [tuple(points.shape) for points in point_coords]
    if [shape[0] for shape in shapes] != pairs.per_layer or any(shape[2:] != (2,) for shape in shapes):
        raise ValueError(
            f'expected point_coords (M, P, 2) for each layer, with M of {pairs.per_layer}, a row for each pair, '
            f'got {shapes}'
        )
    return torch.cat(list(point_coords))
