"""Matching and losses of set prediction.

The released formula is written from its description (DETR, models/matcher.py and models/detr.py): one matrix of the
costs of all queries and objects of the batch for each decoder layer, and a loop over the layers.
"""

import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mmplugins.functional.sets.boxes import cxcywh_to_xyxy
from mmplugins.models.losses import SetCriterion

from ._case import Run, case

HEIGHT, WIDTH = 800, 1333
COSTS = [
    {'type': 'ClassificationCost', 'weight': 1.0},
    {'type': 'BBoxL1Cost', 'weight': 5.0, 'box_format': 'xywh'},
    {'type': 'IoUCost', 'weight': 2.0, 'iou_mode': 'giou'},
]
OUR_COSTS = [{**cost, 'type': f'mmplugins.{cost["type"]}'} for cost in COSTS]
ASSIGNER = {'type': 'mmplugins.BatchHungarianAssigner', 'match_costs': OUR_COSTS}
SIZES = {
    'small': {'layers': 2, 'images': 2, 'queries': 20, 'objects': 5, 'classes': 10},
    'typical': {'layers': 6, 'images': 16, 'queries': 300, 'objects': 40, 'classes': 80},
    'large': {'layers': 6, 'images': 16, 'queries': 900, 'objects': 100, 'classes': 80},
}


def detections(
    device: torch.device, layers: int, images: int, queries: int, objects: int, classes: int
) -> dict[str, Tensor | list[Tensor]]:
    """Makes the predictions of a network that has found most objects, and the objects.

    Args:
        device: Where the tensors go; the values do not depend on it.
        layers: L.
        images: B.
        queries: Q.
        objects: G of each image.
        classes: C.

    Returns:
        ``logits`` (L, B, Q, C+1) and ``boxes`` (L, B, Q, 4), cx,cy,w,h, which require a gradient; ``labels`` and
        ``truth``, (G,) and (G, 4) of each image.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (images, objects), generator=generator)
    truth = torch.rand(images, objects, 4, generator=generator) * torch.tensor([0.6, 0.6, 0.3, 0.3])
    truth += torch.tensor([0.2, 0.2, 0.02, 0.02])
    logits = torch.randn(layers, images, queries, classes + 1, generator=generator)
    boxes = torch.rand(layers, images, queries, 4, generator=generator) * torch.tensor([0.6, 0.6, 0.3, 0.3])
    boxes += torch.tensor([0.2, 0.2, 0.02, 0.02])
    found = torch.arange(objects * 4 // 5)  # of each image, by queries of the same index
    logits[:, :, len(found) :, -1] += 5
    place = labels[:, found].expand(layers, -1, -1)[..., None]
    logits[:, :, found] = logits[:, :, found].scatter_add(-1, place, torch.full(place.shape, 4.0))
    noise = 0.02 * torch.randn(layers, images, len(found), 4, generator=generator)
    boxes[:, :, found] = (truth[:, found] + noise).clamp(min=0.01)
    return {
        'logits': logits.to(device).requires_grad_(),
        'boxes': boxes.to(device).requires_grad_(),
        'labels': list(labels.to(device)),
        'truth': list(truth.to(device)),
    }


@case('set_criterion', "DETR's matching and losses of all decoder layers", **SIZES)
def set_criterion(device: torch.device, **size: int) -> dict:
    """Makes the inputs."""
    return detections(device, **size)


@set_criterion.contender('ours')
def set_criterion_ours(logits: Tensor, boxes: Tensor, labels: list[Tensor], truth: list[Tensor]) -> Run:
    """Builds ours."""
    criterion = SetCriterion(logits.shape[-1] - 1, ASSIGNER, losses=('labels', 'boxes')).to(logits.device)
    targets = [{'labels': label, 'boxes': box} for label, box in zip(labels, truth, strict=True)]
    return lambda: total(criterion({'logits': logits, 'boxes': boxes}, targets))


@set_criterion.contender('released')
def set_criterion_released(logits: Tensor, boxes: Tensor, labels: list[Tensor], truth: list[Tensor]) -> Run:
    """Builds the released formula."""
    return lambda: released_set_loss(logits, boxes, labels, truth)


@case('detr_head', "loss_by_feat of DETR's head", **SIZES)
def detr_head(device: torch.device, **size: int) -> dict:
    """Makes the inputs."""
    return detections(device, **size)


@detr_head.contender('ours', host='mmdet')
def detr_head_ours(logits: Tensor, boxes: Tensor, labels: list[Tensor], truth: list[Tensor]) -> Run:
    """Builds ours."""
    from mmplugins.models.dense_heads import DETRHead

    with DefaultScope.overwrite_default_scope('mmdet'):
        head = DETRHead(logits.shape[-1] - 1).to(logits.device)
    return run_head(head, logits, boxes, labels, truth)


@detr_head.contender('mmdet', host='mmdet')
def detr_head_mmdet(logits: Tensor, boxes: Tensor, labels: list[Tensor], truth: list[Tensor]) -> Run:
    """Builds mmdet's."""
    from mmdet.models.dense_heads import DETRHead

    loss_cls = {'type': 'CrossEntropyLoss', 'class_weight': 1.0, 'bg_cls_weight': 0.1, 'loss_weight': 1.0}
    train_cfg = {'assigner': {'type': 'HungarianAssigner', 'match_costs': COSTS}}
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = DETRHead(logits.shape[-1] - 1, loss_cls=loss_cls, train_cfg=train_cfg).to(logits.device)
    return run_head(head, logits, boxes, labels, truth)


def run_head(head: torch.nn.Module, logits: Tensor, boxes: Tensor, labels: list[Tensor], truth: list[Tensor]) -> Run:
    """Gives the run of a head's ``loss_by_feat``; what the data pipeline does is not measured."""
    size = logits.new_tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    instances = [
        InstanceData(labels=label, bboxes=cxcywh_to_xyxy(box) * size) for label, box in zip(labels, truth, strict=True)
    ]
    metas = [{'img_shape': (HEIGHT, WIDTH)}] * len(labels)
    return lambda: total(head.loss_by_feat(logits, boxes, instances, metas))


def total(losses: dict[str, Tensor]) -> Tensor:
    """Sums as mmengine does: whatever has 'loss' in its name."""
    return sum(value for name, value in losses.items() if 'loss' in name)


def released_set_loss(logits: Tensor, boxes: Tensor, labels: list[Tensor], truth: list[Tensor]) -> Tensor:
    """DETR's loss as released, without the numbers for the log.

    Args:
        logits: (L, B, Q, C+1).
        boxes: (L, B, Q, 4), cx,cy,w,h.
        labels: (G,) of each image.
        truth: (G, 4) of each image.

    Returns:
        Sum over the layers, weights 1, 5 and 2.
    """
    weight = logits.new_ones(logits.shape[-1])
    weight[-1] = 0.1
    sizes = [len(label) for label in labels]
    count = max(sum(sizes), 1)
    result = 0
    for score, box in zip(logits, boxes, strict=True):
        with torch.no_grad():
            prob, flat = score.flatten(0, 1).softmax(-1), box.flatten(0, 1)
            every = torch.cat(truth)
            cost = 5 * torch.cdist(flat, every, p=1) - prob[:, torch.cat(labels)] - 2 * released_giou(flat, every)
            cost = cost.view(*score.shape[:2], -1).cpu()
            pairs = [linear_sum_assignment(part[image]) for image, part in enumerate(cost.split(sizes, -1))]
        image = torch.cat([torch.full((len(query),), index) for index, (query, _) in enumerate(pairs)])
        query = torch.cat([torch.as_tensor(query) for query, _ in pairs])
        target = torch.full(score.shape[:2], len(weight) - 1, device=score.device)
        target[image, query] = torch.cat([label[index] for label, (_, index) in zip(labels, pairs, strict=True)])
        matched = torch.cat([box[index] for box, (_, index) in zip(truth, pairs, strict=True)])
        overlap = released_giou(box[image, query], matched).diag()
        result = result + F.cross_entropy(score.transpose(1, 2), target, weight)
        result = result + 5 * F.l1_loss(box[image, query], matched, reduction='sum') / count
        result = result + 2 * (1 - overlap).sum() / count
    return result


def released_giou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Generalised IoU of every pair of (N, 4) and (M, 4), cx,cy,w,h."""
    boxes1, boxes2 = cxcywh_to_xyxy(boxes1), cxcywh_to_xyxy(boxes2)
    area1, area2 = ((box[:, 2:] - box[:, :2]).prod(1) for box in (boxes1, boxes2))
    inner = torch.min(boxes1[:, None, 2:], boxes2[:, 2:]) - torch.max(boxes1[:, None, :2], boxes2[:, :2])
    outer = torch.max(boxes1[:, None, 2:], boxes2[:, 2:]) - torch.min(boxes1[:, None, :2], boxes2[:, :2])
    intersection = inner.clamp(min=0).prod(2)
    union = area1[:, None] + area2 - intersection
    enclosing = outer.clamp(min=0).prod(2)
    return intersection / union - (enclosing - union) / enclosing
