"""Matching and losses of set prediction: DETR, MaskFormer and Mask2Former.

Papers: DETR (ECCV 2020), MaskFormer (NeurIPS 2021), Mask2Former (CVPR 2022); released code: detr's models/detr.py,
``SetCriterion``, and MaskFormer's and Mask2Former's files of that name. Differences: all decoder layers and images are
one batch of operations; the error of an invalid target names its image; weights are applied here; the class and
cardinality errors are logged for the last layer only.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmplugins.functional.checks.sets import Objects, check_objects, check_outputs, join_objects, valid_maps
from mmplugins.functional.device import without_autocast
from mmplugins.functional.masks.inputs import MaskInputs
from mmplugins.functional.sets.losses import (
    box_losses,
    cardinality_error,
    class_error,
    classification_loss,
    matched_classes,
    name_by_layer,
)
from mmplugins.functional.sets.pairs import IndexPairs, MatchedPairs, pack_pairs
from mmplugins.registry import MODELS, TASK_UTILS

from .averages import ReleasedAverages
from .deferred_checks import DeferredChecks
from .set_matching import match_all
from .toolbox import call_labels, class_weights

LOSSES = ('labels', 'boxes', 'cardinality', 'masks')
LOSS_WEIGHTS = {'loss_cls': 1.0, 'loss_bbox': 5.0, 'loss_iou': 2.0, 'loss_mask': 1.0, 'loss_dice': 1.0}


@MODELS.register_module()
class SetCriterion(DeferredChecks, nn.Module):
    """Matches the predictions of every decoder layer to the objects and computes the losses of the pairs.

    1. The assigner pairs queries and objects, each layer and image for itself, without gradient.
    2. 'labels': cross entropy of every query, of class no-object where it has no pair, with no-object weighted by
       ``eos_coef``; divided by the sum of the weights. Also ``class_error``, for the log.
    3. 'boxes': L1 of cx,cy,w,h and 1 - GIoU of the pairs, divided by the number of objects.
    4. 'masks': what ``mask_loss`` returns for the pairs, divided by the number of objects.
    5. 'cardinality': ``cardinality_error``, for the log: by how much the number of queries that are not no-object
       differs from the number of objects.

    The number of objects is the mean over all ranks, at least 1. A step waits for the device once, for the matching.
    Without any object every loss is finite and attached to its predictions, so that no rank waits for another.

    Args:
        num_classes: Number of classes C; the logits have one more, no-object, at the end.
        assigner: An assigner or its config, such as ``mmplugins.BatchHungarianAssigner``. One that has no
            ``assign_batch`` is called image by image, as mmdet calls it.
        losses: Which of 'labels', 'boxes', 'cardinality' and 'masks' to compute.
        eos_coef: Weight of no-object in the cross entropy.
        loss_weights: Weights by name; those left out have DETR's: ``loss_cls`` 1, ``loss_bbox`` 5, ``loss_iou`` 2,
            ``loss_mask`` 1, ``loss_dice`` 1.
        mask_loss: A ``PointSampledMaskLoss``, ``DenseMaskLoss`` or the like, or its config; with 'masks' only.
        mask_layers: Layers with a mask loss: 'all', whose masks are also compared in the matching, or 'last'.
        class_weight: Weight of each class, no-object last, C+1 numbers; None: 1, and ``eos_coef``.
        loss_cls: A registered loss's config, or a callable, instead of the cross entropy; called for each layer as
            mmdet's mask heads do, with logits (B * Q, C+1), classes, weights of 1 and the sum of the class weights.
        averages: What the losses are divided by, instead of what steps 2 to 4 say; see ``averages.py``.

    Shape:
        - outputs: dict of ``logits`` (L, B, Q, C+1); ``boxes`` (L, B, Q, 4), cx,cy,w,h in units of the image, 0 to 1;
          ``masks`` logits (L, B, Q, h, w), a list of L tensors (B, Q, h, w), or (B, Q, h, w) of the last layer. Any
          floating dtype; computed in float32 (float64 for float64).
        - targets: for each of the B images a dict of ``labels`` (G,), integers in 0..C-1; ``boxes`` (G, 4), cx,cy,w,h
          in units of the image; ``masks`` (G, H, W), bool, uint8 or float; and, if there are ignored pixels, ``valid``
          (H, W), bool, False there. Boxes may have the size 0.
        - img_metas: for each image a dict; ``img_path`` is named in errors.
        - box_units: for each image (4,), width, height, width, height in the unit in which the costs see boxes; None:
          an image is 1 wide and high.
        - match_coords: (L, B, P, 2), x,y in 0 to 1, where masks are compared in the matching.
        - loss_coords: list of L, each (M, P, 2), where masks are compared in the loss; the M pairs of a layer go
          image by image, queries ascending.
        - Returns a dict of scalars: ``loss_cls``, ``loss_bbox``, ``loss_iou``, ``loss_mask``, ``loss_dice`` of the
          last layer and ``d{i}.loss_*`` of layer i before it, all weighted; ``class_error`` in percent and
          ``cardinality_error``, which are no part of the loss.

    Raises:
        ValueError: Settings or shapes that do not fit; a label out of range, or a box that is not finite, has a
            negative size or is in pixels.
        TypeError: Predictions that are not floating, labels that are not integers.

    Examples:
        >>> import torch
        >>> costs = [dict(type='mmplugins.ClassificationCost'), dict(type='mmplugins.BBoxL1Cost', weight=5.0)]
        >>> criterion = SetCriterion(3, dict(type='mmplugins.BatchHungarianAssigner', match_costs=costs))
        >>> outputs = dict(logits=torch.zeros(2, 1, 5, 4), boxes=torch.full((2, 1, 5, 4), 0.5))
        >>> losses = criterion(outputs, [dict(labels=torch.tensor([1]), boxes=torch.tensor([[0.5, 0.5, 0.5, 0.3]]))])
        >>> {name: round(float(value), 3) for name, value in losses.items() if not name.startswith('d0.')}
        {'loss_cls': 1.386, 'loss_bbox': 1.0, 'loss_iou': 0.8, 'class_error': 100.0, 'cardinality_error': 4.0}
    """

    def __init__(
        self,
        num_classes: int,
        assigner: dict | object,
        losses: Sequence[str] = ('labels', 'boxes', 'cardinality'),
        eos_coef: float = 0.1,
        loss_weights: Mapping[str, float] | None = None,
        mask_loss: dict | nn.Module | None = None,
        mask_layers: str = 'all',
        class_weight: Sequence[float] | Tensor | None = None,
        loss_cls: dict | Callable[..., Tensor] | None = None,
        averages: ReleasedAverages | None = None,
    ) -> None:
        super().__init__()
        _check_settings(num_classes, losses, eos_coef, loss_weights or {}, mask_loss, mask_layers)
        self.num_classes = num_classes
        self.losses = tuple(losses)
        self.eos_coef = eos_coef
        self.loss_weights = {**LOSS_WEIGHTS, **(loss_weights or {})}
        self.mask_layers = mask_layers
        self.assigner = TASK_UTILS.build(assigner) if isinstance(assigner, dict) else assigner
        self.mask_loss = MODELS.build(mask_loss) if isinstance(mask_loss, dict) else mask_loss
        self.loss_cls = MODELS.build(loss_cls) if isinstance(loss_cls, dict) else loss_cls
        self.averages = averages or ReleasedAverages()
        weights = [1.0] * num_classes + [eos_coef] if class_weight is None else class_weight
        self.register_buffer('class_weight', class_weights(weights, num_classes), persistent=False)

    def forward(
        self,
        outputs: Mapping[str, Tensor],
        targets: Sequence[Mapping[str, Tensor]],
        img_metas: Sequence[Mapping] | None = None,
        match_coords: Tensor | None = None,
        loss_coords: Sequence[Tensor] | None = None,
        box_units: Sequence[Tensor] | Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Computes the losses; see the class for shapes, steps and errors."""
        needed = [key for key in ('boxes', 'masks') if key in self.losses]
        if 'boxes' in outputs and all('boxes' in target for target in targets):  # for the matching, if for no loss
            needed = ['boxes', *(key for key in needed if key != 'boxes')]
        outputs = check_outputs(outputs, ['logits', *needed], self.num_classes, self.mask_layers)
        metas = [{}] * len(targets) if img_metas is None else list(img_metas)
        if len(metas) != len(targets):
            raise ValueError(f'expected one dict for each of {len(targets)} images in img_metas, got {len(metas)}')
        names = [meta.get('img_path') or f'image {index} of the batch' for index, meta in enumerate(metas)]
        logits = outputs['logits']
        with without_autocast(logits.device):
            objects = join_objects(targets, ['labels', *needed], logits, names)
            self._reads.poll()
            objects = check_objects(objects, self.num_classes, names, self._reads)
            masks = self._mask_inputs(outputs['masks'], targets) if 'masks' in self.losses else None
            pairs = self.match(outputs, objects, metas, masks, match_coords, box_units)  # step 1
            self._reads.poll()  # the matching has waited for the device: what is wrong with this batch is known
            pairs = pack_pairs(pairs, logits.shape[2], objects.counts, logits.device)
            return self._losses(outputs, objects, pairs, masks, loss_coords)

    def _mask_inputs(self, logits: Tensor | Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]]) -> MaskInputs:
        """Checks the masks of the layers that have a mask loss."""
        if self.mask_layers == 'last' and len(logits) > 1:  # of one layer not: a slice's gradient is of the whole
            logits = logits[-1:]
        return self.mask_loss.inputs(logits, [target['masks'] for target in targets], valid_maps(targets))

    @torch.no_grad()
    def match(
        self,
        outputs: Mapping[str, Tensor],
        objects: Objects,
        img_metas: Sequence[Mapping],
        masks: MaskInputs | None = None,
        match_coords: Tensor | None = None,
        box_units: Sequence[Tensor] | Tensor | None = None,
    ) -> IndexPairs:
        """Pairs queries and objects.

        Args:
            outputs: As in ``forward``, in the precision of the losses.
            objects: The targets, joined and checked.
            img_metas: A dict for each image.
            masks: Logits and masks, checked.
            match_coords: As in ``forward``.
            box_units: As in ``forward``.

        Returns:
            [layer][image] -> (query, object), int64 on the CPU, ascending in the query.
        """
        compared = None
        if masks is not None and self.mask_layers == 'all':
            compared = self.mask_loss.match_inputs(masks, match_coords)
        logits, boxes = outputs['logits'].detach(), outputs.get('boxes')
        return match_all(self.assigner, logits, boxes, objects, img_metas, box_units, compared)

    def _losses(
        self,
        outputs: Mapping[str, Tensor],
        objects: Objects,
        pairs: MatchedPairs,
        masks: MaskInputs | None,
        loss_coords: Sequence[Tensor] | None,
    ) -> dict[str, Tensor]:
        """Computes steps 2 to 5 for matched pairs."""
        logits = outputs['logits']
        label_factor, object_factor = self.averages.factors(pairs, objects.counts, logits[0, ..., 0].numel())
        found, log = {}, {}
        if 'labels' in self.losses or 'cardinality' in self.losses:
            predicted = logits[-1].detach().argmax(-1)  # (B, Q)
        if 'labels' in self.losses:  # step 2
            classes = matched_classes(objects.labels, pairs, logits.shape[:3], self.num_classes)
            weight = self.class_weight.to(logits.dtype)
            if self.loss_cls is None:
                found['loss_cls'] = classification_loss(logits, classes, weight, label_factor)
            else:
                found['loss_cls'] = call_labels(self.loss_cls, logits, classes, weight)
            log['class_error'] = class_error(predicted, classes[-1], self.num_classes, pairs.per_layer[-1])
        if 'boxes' in self.losses:  # step 3
            found['loss_bbox'], found['loss_iou'] = box_losses(outputs['boxes'], objects.boxes, pairs, object_factor)
        if 'masks' in self.losses:  # step 4
            if self.mask_layers == 'last':
                loss_coords = None if loss_coords is None else loss_coords[-1:]
                pairs_with_masks = pairs.last_layer()
            else:
                pairs_with_masks = pairs
            found |= self.mask_loss.layer_losses(masks, pairs_with_masks, object_factor, loss_coords)
        if 'cardinality' in self.losses:  # step 5
            log['cardinality_error'] = cardinality_error(predicted, pairs.num_objects, self.num_classes)
        found = {name: self.loss_weights.get(name, 1.0) * value for name, value in found.items()}
        return {**name_by_layer(found, len(logits)), **log}

    def extra_repr(self) -> str:
        """Shows the settings in ``print(model)``."""
        weights = ', '.join(f'{name}={weight}' for name, weight in self.loss_weights.items())
        return (
            f'num_classes={self.num_classes}, losses={self.losses}, eos_coef={self.eos_coef}, '
            f'mask_layers={self.mask_layers!r}, weights: {weights}'
        )


def _check_settings(
    num_classes: int,
    losses: Sequence[str],
    eos_coef: float,
    loss_weights: Mapping[str, float],
    mask_loss: dict | nn.Module | None,
    mask_layers: str,
) -> None:
    if num_classes < 1:
        raise ValueError(f'num_classes counts the classes without no-object, at least 1, got {num_classes}')
    unknown = [name for name in losses if name not in LOSSES]
    if isinstance(losses, str) or unknown or not losses:
        raise ValueError(f'losses must be a list of some of {LOSSES}, got {losses!r}')
    if eos_coef < 0:
        raise ValueError(f'eos_coef is the weight of no-object, 0 or more, got {eos_coef}; 0.1 is usual')
    unknown = [name for name in loss_weights if name not in LOSS_WEIGHTS]
    if unknown:
        raise ValueError(f'loss_weights knows {list(LOSS_WEIGHTS)}, got {unknown}')
    if ('masks' in losses) != (mask_loss is not None):
        raise ValueError(
            f"'masks' in losses and mask_loss belong together, got losses={tuple(losses)} and mask_loss={mask_loss}; "
            "give mask_loss=dict(type='mmplugins.PointSampledMaskLoss'), or neither"
        )
    if mask_layers not in ('all', 'last'):
        raise ValueError(f"mask_layers must be 'all' or 'last', got {mask_layers!r}")
