"""Hands the predictions of all decoder layers to an assigner, in the form that mmdet's match costs take.

Shapes: L decoder layers, B images, Q queries, C classes, G objects of an image, P points.
"""

from collections.abc import Mapping, Sequence

from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

from mmplugins.functional.checks.sets import Objects
from mmplugins.functional.masks.pairs import LEFT_OUT
from mmplugins.functional.sets.boxes import cxcywh_to_xyxy
from mmplugins.functional.sets.pairs import Pairs


def match_all(
    assigner: object,
    logits: Tensor,
    boxes: Tensor | None,
    objects: Objects,
    img_metas: Sequence[Mapping],
    units: Sequence[Tensor] | None = None,
    masks: Sequence[Mapping[str, Tensor | None]] | None = None,
) -> Pairs:
    """Pairs queries and objects of every layer and image.

    Args:
        assigner: A ``BatchHungarianAssigner``, or one that has mmdet's ``assign`` only.
        logits: (L, B, Q, C+1).
        boxes: (L, B, Q, 4), cx,cy,w,h in units of the image; used if the objects have boxes.
        objects: Objects of all images.
        img_metas: A dict for each image.
        units: For each image (4,), width, height, width, height in the unit in which the costs see boxes; None: an
            image is 1 wide and high, and so is the ``img_shape`` that the costs see.
        masks: For each image what a mask loss's ``match_inputs`` gives: ``pred`` (L, Q, P) or (L, Q, h, w), ``gt`` with
            the same axes, (L, G, ...), or for all layers, (G, ...), and ``valid`` (L, P), (P,), (h, w) or None; None:
            no cost compares masks. Costs that know nothing of ``valid`` see certain background there.

    Returns:
        [layer][image] -> (query, object), int64 on the CPU, ascending in the query.
    """
    predictions = [InstanceData(scores=logits[:, image]) for image in range(len(img_metas))]
    truths = [InstanceData(labels=labels) for labels in objects.labels.split(objects.counts)]
    if objects.boxes is not None:
        corners = cxcywh_to_xyxy(boxes.detach())  # (L, B, Q, 4)
        for image, truth in enumerate(cxcywh_to_xyxy(objects.boxes).split(objects.counts)):
            predictions[image].bboxes = corners[:, image] if units is None else corners[:, image] * units[image]
            truths[image].bboxes = truth if units is None else truth * units[image]
        if units is None:
            img_metas = [{**meta, 'img_shape': (1, 1)} for meta in img_metas]
    options = {}
    if masks is not None:
        costs = getattr(assigner, 'match_costs', None) if hasattr(assigner, 'assign_batch') else None
        know_valid = bool(costs) and all(getattr(cost, 'stacks_layers', False) for cost in costs)
        for image, compared in enumerate(masks):
            if compared['valid'] is not None and not know_valid:
                compared = _background_where_left_out(**compared)
            predictions[image].masks = compared['pred']
            if compared['gt'].dim() == compared['pred'].dim():  # of L entries, not of G as the labels
                truths[image] = BaseDataElement(**dict(truths[image].items()))
            truths[image].masks = compared['gt']
        if any(compared['valid'] is not None for compared in masks):
            options['valid'] = [compared['valid'] for compared in masks]
    if hasattr(assigner, 'assign_batch'):
        return assigner.assign_batch(predictions, truths, img_metas, **options)
    return [
        [
            _assign(assigner, prediction, truth, meta, layer)
            for prediction, truth, meta in zip(predictions, truths, img_metas, strict=True)
        ]
        for layer in range(len(logits))
    ]


def _background_where_left_out(pred: Tensor, gt: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """Makes points that take no part certain background, in predictions and in masks; see ``match_all``."""
    left_out = ~valid.bool()
    if valid.dim() == pred.dim() - 1:  # a map for each layer
        left_out = left_out.unsqueeze(1)
    return {'pred': pred.masked_fill(left_out, LEFT_OUT), 'gt': gt.masked_fill(left_out, 0), 'valid': valid}


def _assign(
    assigner: object, predictions: InstanceData, truth: BaseDataElement, img_meta: Mapping, layer: int
) -> tuple[Tensor, Tensor]:
    """Calls an assigner that knows one layer of one image, as mmdet's heads do; it waits for the device."""
    prediction = InstanceData(**{key: value[layer] for key, value in predictions.items()})
    fields = dict(truth.items())
    if 'masks' in fields and fields['masks'].dim() == predictions.masks.dim():
        fields['masks'] = fields['masks'][layer]
    truth = InstanceData(**fields)
    assigned = assigner.assign(pred_instances=prediction, gt_instances=truth, img_meta=img_meta).gt_inds.cpu()
    query = (assigned > 0).nonzero().squeeze(1)
    return query, assigned[query] - 1
