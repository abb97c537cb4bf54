"""Matching of queries with objects, costs and assignment: by boxes (DETR) and by points of masks (Mask2Former).

And the assignment alone, with lapx where it is installed. The released formula is written from its description (DETR,
models/matcher.py): one matrix of the costs of all queries and objects of the batch for each decoder layer.
"""

import torch
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement, InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmplugins.functional.sets.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from mmplugins.functional.sets.matching import solve_block
from mmplugins.models.task_modules.assigners import BatchHungarianAssigner

from ._case import Run, case
from .set_criterion import COSTS, HEIGHT, OUR_COSTS, SIZES, WIDTH, detections, released_giou

MASK_COSTS = [
    {'type': 'ClassificationCost', 'weight': 2.0},
    {'type': 'CrossEntropyLossCost', 'weight': 5.0, 'use_sigmoid': True},
    {'type': 'DiceCost', 'weight': 5.0, 'pred_act': True, 'eps': 1.0},
]
OUR_MASK_COSTS = [{**cost, 'type': f'mmplugins.{cost["type"]}'} for cost in MASK_COSTS]
MASK_SIZES = {
    'small': {'layers': 2, 'images': 2, 'queries': 20, 'objects': 5, 'points': 256},
    'typical': {'layers': 10, 'images': 2, 'queries': 100, 'objects': 20, 'points': 12544},
    'large': {'layers': 10, 'images': 16, 'queries': 200, 'objects': 60, 'points': 12544},
}
Pairs = list[list[tuple[Tensor, Tensor]]]


@case('matching', "DETR's matching of all decoder layers", **SIZES)
def matching(device: torch.device, **size: int) -> dict:
    """Makes the inputs, boxes x1,y1,x2,y2 in pixels."""
    scene = detections(device, **size)
    pixels = torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT], device=device)
    return {
        'scores': scene['logits'].detach(),
        'bboxes': cxcywh_to_xyxy(scene['boxes'].detach()) * pixels,
        'labels': scene['labels'],
        'truth': [cxcywh_to_xyxy(boxes) * pixels for boxes in scene['truth']],
    }


@matching.contender('ours')
def matching_ours(scores: Tensor, bboxes: Tensor, labels: list[Tensor], truth: list[Tensor]) -> Run:
    """Builds ours."""
    return run_ours(OUR_COSTS, {'scores': scores, 'bboxes': bboxes}, {'labels': labels, 'bboxes': truth})


@matching.contender('mmdet', host='mmdet')
def matching_mmdet(scores: Tensor, bboxes: Tensor, labels: list[Tensor], truth: list[Tensor]) -> Run:
    """Builds mmdet's, called layer by layer and image by image as its heads do."""
    return run_mmdet(COSTS, {'scores': scores, 'bboxes': bboxes}, {'labels': labels, 'bboxes': truth})


@matching.contender('released')
def matching_released(scores: Tensor, bboxes: Tensor, labels: list[Tensor], truth: list[Tensor]) -> Run:
    """Builds the released formula; what is a fraction of the image there is made one before."""
    pixels = bboxes.new_tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    boxes, objects = xyxy_to_cxcywh(bboxes / pixels), [xyxy_to_cxcywh(box / pixels) for box in truth]
    return lambda: [released_match(*layer, labels, objects) for layer in zip(scores, boxes, strict=True)]


@case('mask_matching', "Mask2Former's matching of all decoder layers at points", **MASK_SIZES)
def mask_matching(device: torch.device, layers: int, images: int, queries: int, objects: int, points: int) -> dict:
    """Makes logits (L, B, Q, P) at points of objects' masks (L, G, P) that one query each has found, and classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 80, (images, objects), generator=generator)
    truth = (torch.rand(images, layers, objects, points, generator=generator) < 0.1).float()
    masks = torch.randn(layers, images, queries, points, generator=generator) - 2
    masks[:, :, :objects] += 4 * truth.transpose(0, 1)
    scores = torch.randn(layers, images, queries, 81, generator=generator)
    return {
        'scores': scores.to(device),
        'masks': masks.to(device),
        'labels': list(labels.to(device)),
        'truth': list(truth.to(device)),
    }


@mask_matching.contender('ours')
def mask_matching_ours(scores: Tensor, masks: Tensor, labels: list[Tensor], truth: list[Tensor]) -> Run:
    """Builds ours."""
    return run_ours(OUR_MASK_COSTS, {'scores': scores, 'masks': masks}, {'labels': labels, 'masks': truth})


@mask_matching.contender('mmdet', host='mmdet')
def mask_matching_mmdet(scores: Tensor, masks: Tensor, labels: list[Tensor], truth: list[Tensor]) -> Run:
    """Builds mmdet's, called layer by layer and image by image as its heads do."""
    return run_mmdet(MASK_COSTS, {'scores': scores, 'masks': masks}, {'labels': labels, 'masks': truth})


@case(
    'assignment',
    'the assignment alone, more queries than objects',
    small={'layers': 4, 'queries': 30, 'objects': 4},
    typical={'layers': 96, 'queries': 300, 'objects': 40},
    large={'layers': 96, 'queries': 900, 'objects': 100},
)
def assignment(device: torch.device, layers: int, queries: int, objects: int) -> dict:
    """Makes the costs of one image, on the host, as they are when they are solved."""
    return {'costs': torch.rand(layers, queries, objects, generator=torch.Generator().manual_seed(0))}


@case(
    'assignment_square',
    'the assignment alone, as many queries as objects',
    small={'layers': 4, 'queries': 30, 'objects': 30},
    typical={'layers': 6, 'queries': 200, 'objects': 200},
    large={'layers': 6, 'queries': 500, 'objects': 500},
)
def assignment_square(device: torch.device, **size: int) -> dict:
    """Makes the costs of one image, on the host, as they are when they are solved."""
    return assignment.make_inputs(device, **size)


@assignment.contender('ours')
@assignment_square.contender('ours')
def assignment_ours(costs: Tensor) -> Run:
    """Builds ours: lapx where it is installed, SciPy otherwise."""
    return lambda: solve_block(costs.numpy())


@assignment.contender('released')
@assignment_square.contender('released')
def assignment_released(costs: Tensor) -> Run:
    """Builds SciPy's, layer by layer, as all released codes have it."""
    return lambda: [tuple(map(torch.as_tensor, linear_sum_assignment(layer))) for layer in costs]


def run_ours(costs: list[dict], pred: dict[str, Tensor], true: dict[str, list[Tensor]]) -> Run:
    """Gives the run of our assigner: predictions (L, B, ...), ground truths for each image, masks (L, G, P)."""
    assigner = BatchHungarianAssigner(costs)
    metas = [{'img_shape': (HEIGHT, WIDTH)}] * len(true['labels'])

    def run() -> Pairs:
        images = [BaseDataElement(**{name: x[:, b] for name, x in pred.items()}) for b in range(len(metas))]
        truths = [BaseDataElement(**{name: x[b] for name, x in true.items()}) for b in range(len(metas))]
        return assigner.assign_batch(images, truths, metas)

    return run


def run_mmdet(costs: list[dict], pred: dict[str, Tensor], true: dict[str, list[Tensor]]) -> Run:
    """Gives the run of mmdet's assigner, one layer of one image after the other; takes what ``run_ours`` takes."""
    from mmdet.models.task_modules.assigners import HungarianAssigner

    with DefaultScope.overwrite_default_scope('mmdet'):
        assigner = HungarianAssigner(costs)
    meta = {'img_shape': (HEIGHT, WIDTH)}

    def match(layer: int, b: int) -> tuple[Tensor, Tensor]:
        one = InstanceData(**{name: x[layer, b] for name, x in pred.items()})
        truth = InstanceData(**{name: x[b][layer] if name == 'masks' else x[b] for name, x in true.items()})
        assigned = assigner.assign(pred_instances=one, gt_instances=truth, img_meta=meta).gt_inds
        query = torch.nonzero(assigned > 0, as_tuple=False).squeeze(-1)  # as mmdet's sampler
        return query, assigned[query] - 1

    layers, images = pred['scores'].shape[:2]
    return lambda: [[match(layer, b) for b in range(images)] for layer in range(layers)]


def released_match(logits: Tensor, boxes: Tensor, labels: list[Tensor], truth: list[Tensor]) -> list:
    """Matches one layer: logits (B, Q, C+1), boxes (B, Q, 4) and (G, 4) of each image, cx,cy,w,h."""
    prob, flat, every = logits.flatten(0, 1).softmax(-1), boxes.flatten(0, 1), torch.cat(truth)
    cost = 5 * torch.cdist(flat, every, p=1) - prob[:, torch.cat(labels)] - 2 * released_giou(flat, every)
    parts = cost.view(*logits.shape[:2], -1).cpu().split([len(label) for label in labels], -1)
    pairs = [linear_sum_assignment(part[b]) for b, part in enumerate(parts)]
    return [(torch.as_tensor(query), torch.as_tensor(index)) for query, index in pairs]
