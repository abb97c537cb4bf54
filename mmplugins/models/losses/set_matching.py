"""Hands the predictions of all decoder layers to an assigner, in the form that mmdet's match costs take.

Shapes: L decoder layers, B images, Q queries, C classes, G objects of an image, P points.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

from mmplugins.functional.checks.sets import Objects
from mmplugins.functional.masks.ignored import IGNORED_LOGIT
from mmplugins.functional.sets.boxes import cxcywh_to_xyxy
from mmplugins.functional.sets.pairs import IndexPairs

from .mask_loss import Compared, MatchInputs

STACKED = ('masks', 'valid')  # what has an axis of layers beside the predictions


def match_all(
    assigner: object,
    logits: Tensor,
    boxes: Tensor | None,
    objects: Objects,
    img_metas: Sequence[Mapping],
    box_units: Sequence[Tensor] | Tensor | None = None,
    masks: MatchInputs | None = None,
) -> IndexPairs:
    """Pairs queries and objects of every layer and image.

    Args:
        assigner: A ``BatchHungarianAssigner``, or one that has mmdet's ``assign`` only. With a true attribute
            ``samples_masks`` its ``assign_batch`` takes ``sample_masks``, and no mask is sampled before it is needed.
        logits: (L, B, Q, C+1).
        boxes: (L, B, Q, 4), cx,cy,w,h in units of the image; used if the objects have boxes.
        objects: Objects of all images.
        img_metas: A dict for each image.
        box_units: For each image (4,), width, height, width, height in the unit in which the costs see boxes; None: an
            image is 1 wide and high, and so is the ``img_shape`` that the costs see.
        masks: What a mask loss's ``match_inputs`` returned; None: no cost compares masks. Costs that know nothing of
            ``valid`` see certain background at ignored points.

    Returns:
        [layer][image] -> (query, object), int64 on the CPU, ascending in the query.
    """
    at_once = hasattr(assigner, 'assign_batch')
    predictions = [{'scores': logits[:, image]} for image in range(len(img_metas))]
    found = [{'labels': labels} for labels in objects.labels.split(objects.counts)]
    options = {}
    if objects.boxes is not None:
        corners = cxcywh_to_xyxy(boxes.detach())  # (L, B, Q, 4)
        for image, of_image in enumerate(cxcywh_to_xyxy(objects.boxes).split(objects.counts)):
            unit = 1 if box_units is None else box_units[image]
            predictions[image]['bboxes'], found[image]['bboxes'] = corners[:, image] * unit, of_image * unit
        if box_units is None:
            img_metas = [{**meta, 'img_shape': (1, 1)} for meta in img_metas]
    if masks is not None:
        costs = getattr(assigner, 'match_costs', ()) if at_once else ()
        know_valid = bool(costs) and all(getattr(cost, 'stacks_layers', False) for cost in costs)
        compare = partial(_compare, masks, know_valid)
        if getattr(assigner, 'samples_masks', False):
            options['sample_masks'] = compare
        else:
            everything = [compare(image, slice(None)) for image in range(len(img_metas))]
            for prediction, one, compared in zip(predictions, found, everything, strict=True):
                prediction['masks'], one['masks'] = compared['pred'], compared['gt']
            if any(compared['valid'] is not None for compared in everything):
                options['valid'] = [compared['valid'] for compared in everything]
    if at_once:
        predictions = [InstanceData(**fields) for fields in predictions]
        found = [BaseDataElement(**fields) for fields in found]  # masks have L entries, labels G
        return assigner.assign_batch(predictions, found, img_metas, stacked=STACKED, **options)
    return [
        [_assign(assigner, *image, layer) for image in zip(predictions, found, img_metas, strict=True)]
        for layer in range(len(logits))
    ]


def _compare(masks: MatchInputs, know_valid: bool, image: int, layers: slice) -> Compared:
    """Returns what costs compare in some layers of an image; for costs that know nothing of ``valid`` it is filled."""
    compared = masks.part(image, layers)
    if compared['valid'] is None or know_valid:
        return compared
    ignored = ~compared['valid'].unsqueeze(1)  # (l, 1, P)
    return {
        'pred': compared['pred'].masked_fill(ignored, IGNORED_LOGIT),
        'gt': compared['gt'].masked_fill(ignored, 0),
        'valid': compared['valid'],
    }


def _assign(
    assigner: object, prediction: Mapping[str, Tensor], found: Mapping[str, Tensor], img_meta: Mapping, layer: int
) -> tuple[Tensor, Tensor]:
    """Calls an assigner that knows one layer of one image, as mmdet's heads do; it waits for the device."""
    prediction = InstanceData(**{name: value[layer] for name, value in prediction.items()})
    found = InstanceData(**{name: value[layer] if name in STACKED else value for name, value in found.items()})
    assigned = assigner.assign(pred_instances=prediction, gt_instances=found, img_meta=img_meta).gt_inds.cpu()
    query = (assigned > 0).nonzero().squeeze(1)
    return query, assigned[query] - 1
