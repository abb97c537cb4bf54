"""Match costs and losses of set prediction in float64, a pair at a time; nothing of the library is used."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.fuzz import mask_references


def pairwise(value, queries: Tensor, objects: Tensor) -> Tensor:
    """A cost of every query and object, (Q, G)."""
    rows = [torch.stack([value(q, g) for g in objects]) if len(objects) else queries.new_zeros(0) for q in queries]
    return torch.stack(rows).double() if rows else torch.zeros(0, len(objects), dtype=torch.float64)


def classification(scores: Tensor, labels: Tensor) -> Tensor:
    return pairwise(lambda q, g: -(q[int(g)] - q.logsumexp(0)).exp(), scores, labels)


def _clipped(log: Tensor, eps: float) -> Tensor:
    return log if eps == 0 else log.clamp(min=math.log(eps))


def _focal(x: Tensor, alpha: float, gamma: float, eps: float) -> tuple[Tensor, Tensor]:
    """Loss of a 0 and of a 1."""
    p = x.sigmoid()
    q = (-x).sigmoid()
    return -(1 - alpha) * p**gamma * _clipped(F.logsigmoid(-x), eps), -alpha * q**gamma * _clipped(F.logsigmoid(x), eps)


def focal_labels(scores: Tensor, labels: Tensor, alpha: float, gamma: float, eps: float) -> Tensor:
    def value(q, g):
        negative, positive = _focal(q[int(g)], alpha, gamma, eps)
        return positive - negative

    return pairwise(value, scores, labels)


def _mean(elements: Tensor, weight: Tensor) -> Tensor:
    total = weight.sum()
    return (elements * weight).sum() / (total if total > 0 else 1)


def focal_masks(pred: Tensor, masks: Tensor, weight: Tensor, alpha: float, gamma: float, eps: float) -> Tensor:
    def value(q, g):
        negative, positive = _focal(q, alpha, gamma, eps)
        return _mean(negative * (1 - g) + positive * g, weight)

    return pairwise(value, pred, masks)


def entropy_masks(pred: Tensor, masks: Tensor, weight: Tensor) -> Tensor:
    return pairwise(lambda q, g: _mean(mask_references.entropy(q, g), weight), pred, masks)


def dice_masks(pred: Tensor, masks: Tensor, weight: Tensor, sigmoid: bool, eps: float, naive: bool) -> Tensor:
    def value(q, g):
        p = q.sigmoid() if sigmoid else q
        size = (p * weight).sum() + (g * weight).sum() if naive else (p**2 * weight).sum() + (g**2 * weight).sum()
        return 1 - (2 * (p * g * weight).sum() + eps) / (size + eps)

    return pairwise(value, pred, masks)


def l1(pred: Tensor, true: Tensor, height: float, width: float, box_format: str) -> Tensor:
    def fractions(box):
        x1, y1, x2, y2 = box[0] / width, box[1] / height, box[2] / width, box[3] / height
        if box_format == 'xywh':
            return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))
        return torch.stack((x1, y1, x2, y2))

    return pairwise(lambda q, g: (fractions(q) - fractions(g)).abs().sum(), pred, true)


def overlap(a: Tensor, b: Tensor, mode: str) -> Tensor:
    """IoU, IoF or generalised IoU of two boxes x1, y1, x2, y2 that are not inside out."""
    side = [torch.clamp(torch.minimum(a[i + 2], b[i + 2]) - torch.maximum(a[i], b[i]), min=0) for i in (0, 1)]
    inter = side[0] * side[1]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    if mode == 'iof':
        return inter / areas[0].clamp(min=1e-12)
    union = (areas[0] + areas[1] - inter).clamp(min=1e-12)
    if mode == 'iou':
        return inter / union
    hull = [torch.maximum(a[i + 2], b[i + 2]) - torch.minimum(a[i], b[i]) for i in (0, 1)]
    hull = (hull[0] * hull[1]).clamp(min=1e-12)
    return inter / union - (hull - union) / hull


def least_total(cost: Tensor) -> float:
    """Least sum of min(Q, G) costs of a one-to-one assignment, by trying all; small blocks only."""
    cost = cost if len(cost) >= cost.shape[1] else cost.T
    rows, columns = range(len(cost)), range(cost.shape[1])
    return min(
        (
            sum(float(cost[row, column]) for column, row in zip(columns, chosen, strict=True))
            for chosen in itertools.permutations(rows, len(columns))
        ),
        default=0.0,
    )


def corners(box: Tensor) -> Tensor:
    """cx, cy, w, h to x1, y1, x2, y2."""
    return torch.cat((box[:2] - box[2:] / 2, box[:2] + box[2:] / 2))


def criterion(outputs, targets, pairs, num_classes: int, eos_coef: float, weights) -> dict[str, Tensor]:
    """Losses of DETR's criterion for given pairs, [layer][image] -> (query, object), a query at a time."""
    number = max(sum(len(target['labels']) for target in targets), 1)
    found = {}
    layers = len(outputs['logits'])
    for layer in range(layers):
        total, divisor, distance, giou = (outputs['logits'].sum() * 0 for _ in range(4))
        distance, giou = (outputs['boxes'].sum() * 0 for _ in range(2))
        for image, target in enumerate(targets):
            matched = dict(zip(*(index.tolist() for index in pairs[layer][image]), strict=True))
            for query, logits in enumerate(outputs['logits'][layer, image]):
                label = int(target['labels'][matched[query]]) if query in matched else num_classes
                share = eos_coef if query not in matched else 1.0
                total = total - share * (logits - logits.logsumexp(0))[label]
                divisor = divisor + share
                if query in matched:
                    ours, theirs = outputs['boxes'][layer, image, query], target['boxes'][matched[query]].double()
                    distance = distance + (ours - theirs).abs().sum()
                    giou = giou + 1 - overlap(corners(ours), corners(theirs), 'giou')
        prefix = '' if layer == layers - 1 else f'd{layer}.'
        divisor = divisor if float(divisor) else divisor + 1
        found[f'{prefix}loss_cls'] = weights['loss_cls'] * total / divisor
        found[f'{prefix}loss_bbox'] = weights['loss_bbox'] * distance / number
        found[f'{prefix}loss_iou'] = weights['loss_iou'] * giou / number
    return found
