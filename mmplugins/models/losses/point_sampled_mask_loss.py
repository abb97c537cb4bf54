"""Mask loss on sampled points, most of them where the prediction is uncertain.

Paper: Mask2Former (CVPR 2022), after PointRend (CVPR 2020); released code: Mask2Former's criterion.py, ``loss_masks``,
and matcher.py. Deliberate differences: masks are never copied as floats; all layers and images are worked on together;
pixels can be ignored, which the released code cannot do.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmplugins.functional.device import at_once, empty_buffer
from mmplugins.functional.masks.cpu import sort_points
from mmplugins.functional.masks.formulas import bce_dice
from mmplugins.functional.masks.inputs import MaskInputs
from mmplugins.functional.masks.point_losses import PointSamples, tie_losses
from mmplugins.functional.masks.sampled_logits import (
    check_sampling,
    draw_points,
    grid_values,
    sample_into,
    sample_logits,
    uncertain_points,
)
from mmplugins.functional.masks.sampled_masks import PairTargets, layer_sampler
from mmplugins.functional.sets.pairs import MatchedPairs, PairBlock
from mmplugins.registry import MODELS

from .mask_loss import BaseMaskLoss, Compared, Losses, MatchInputs, mean_over
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

    def match_inputs(
        self, inputs: MaskInputs, match_coords: Tensor | None = None, generator: torch.Generator | None = None
    ) -> MatchInputs:
        """Samples what the mask costs compare: points that all predictions and masks of an image and layer share.

        Args:
            inputs: What ``inputs`` returned.
            match_coords: x,y in 0 to 1, (L, B, P, 2); None: drawn uniformly.
            generator: Source of the draws, on the logits' device.

        Returns:
            For each image ``pred`` (L, Q, P) logits, ``gt`` (L, G, P) and ``valid`` bool (L, P), or None if all points
            are valid; a single point in an image without masks. Points are drawn at once, the rest is sampled when it
            is asked for.
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

        def open_image(image: int) -> Callable[[slice], Compared]:
            masks, ignored = inputs.masks[image], inputs.ignored[image]
            points = match_coords[:, image].to(inputs.dtype)  # (L, P, 2)
            points = points if len(masks) else points[:, :1]  # there is nothing to compare with
            sample = layer_sampler(masks, points)

            def compared(part: slice) -> Compared:
                maps, places = layers[part], points[part]
                pred = empty_buffer((len(maps), maps[0].shape[1], places.shape[1]), inputs.dtype, inputs.device)
                for values, layer, place in zip(pred, maps, places, strict=True):
                    sample_into(values, layer[image] if ignored is None else ignored.clear(layer[image].clone()), place)
                valid = None if ignored is None else ignored.valid_points(places)
                return {'pred': pred, 'gt': sample(part), 'valid': valid}

            return compared

        return MatchInputs(images, open_image)

    def pair_losses(
        self,
        inputs: MaskInputs,
        pairs: MatchedPairs,
        avg_factor: Tensor | float,
        point_coords: Sequence[Tensor] | None,
        generator: torch.Generator | None = None,
    ) -> Losses:
        """Computes both losses of every layer, (L,) each; see ``layer_losses``."""
        samples = self.sample_pairs(inputs, pairs, point_coords, generator)  # steps 1 and 2, and 3 if it is built in
        ends = np.cumsum(pairs.per_layer).tolist()
        parts = [slice(end - size, end) for end, size in zip(ends, pairs.per_layer, strict=True)]
        ours = self.mask_weight is not None and self.dice_weight is not None
        if isinstance(inputs.logits, Tensor):
            tied = self._tie(inputs.logits, samples, (pairs.layer, pairs.image, pairs.query), ours)
            layers = [[value[part] for value in tied] for part in parts]
        else:
            layers = [
                self._tie(maps, samples.rows(part), (pairs.image[part], pairs.query[part]), ours)
                for maps, part in zip(inputs.logits, parts, strict=True)
            ]
        if ours:  # step 4
            weights = (self.mask_weight, self.dice_weight)
            return tuple(
                weight * torch.stack([mean_over(value, avg_factor) for value in values])
                for weight, values in zip(weights, zip(*layers, strict=True), strict=True)
            )
        losses = [
            self.compare(*logits, some.target, some.weight, avg_factor)
            for logits, some in zip(layers, map(samples.rows, parts), strict=True)
        ]
        return tuple(torch.stack(values) for values in zip(*losses, strict=True))

    def _tie(self, logits: Tensor, samples: PointSamples, rows: Sequence[Tensor], losses: bool) -> tuple[Tensor, ...]:
        """Gives the losses of pairs, or else their sampled logits, a gradient to the logits."""
        if losses:
            return tie_losses(logits, samples, rows)
        return (sample_logits(logits, samples.points, rows, samples.logits),)

    @torch.no_grad()
    def sample_pairs(
        self,
        inputs: MaskInputs,
        pairs: MatchedPairs,
        point_coords: Sequence[Tensor] | None,
        generator: torch.Generator | None = None,
    ) -> PointSamples:
        """Chooses points for every pair and samples there; steps 1 and 2. Where both losses are built in, step 3."""
        given = None if point_coords is None else _given_points(point_coords, pairs)
        shape = (len(pairs.layer), self.num_points if given is None else given.shape[1])
        targets = PairTargets(inputs.masks, shape, len(pairs.counts), inputs.dtype, inputs.device)
        found = empty_buffer((3, *shape), inputs.dtype, inputs.device)
        ignores = any(one is not None for one in inputs.ignored)
        samples = PointSamples(
            points=found[:2].permute(1, 2, 0),  # x and y apart in memory
            logits=found[2],
            kept=targets.kept,
            losses=found.new_empty(shape[0], 5),
            valid=torch.ones(shape, dtype=torch.bool, device=inputs.device) if ignores else None,
            size=targets.size,
        )
        drawn = max(1, int(shape[1] * self.oversample_ratio))  # of a pair
        for block in pairs.blocks(at_once(inputs.device, _CPU_POINTS // drawn, _POINTS // drawn)):
            self._sample_block(inputs, pairs, block, given, generator, samples, targets)
        return samples

    def _sample_block(
        self,
        inputs: MaskInputs,
        pairs: MatchedPairs,
        block: PairBlock,
        given: Tensor | None,
        generator: torch.Generator | None,
        samples: PointSamples,
        targets: PairTargets,
    ) -> None:
        """Does for some pairs of an image what ``sample_pairs`` does."""
        ignored, places = inputs.ignored[block.image], block.places
        if given is None:
            chosen, values = uncertain_points(
                inputs.pair_maps(block, pairs.query),  # without a name here, so that they are gone when they can be
                self.num_points,
                self.oversample_ratio,
                self.importance_sample_ratio,
                generator,
                valid_points=None if ignored is None else ignored.valid_points,
            )
        else:
            chosen = given[places].to(inputs.dtype)
            values = grid_values(inputs.pair_maps(block, pairs.query), chosen)
        samples.points[places] = chosen
        target, weight = targets.sample(block.image, chosen, pairs.object[places], places), None
        if ignored is not None:
            samples.valid[places] = valid = ignored.valid_points(chosen)
            weight = valid.to(values.dtype)
        if self.mask_weight is None or self.dice_weight is None:
            samples.logits[places] = values
        else:
            samples.keep_losses(values, target, weight, places)

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
