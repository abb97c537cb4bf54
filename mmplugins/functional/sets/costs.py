"""Costs of matching every query with every object; masks without a tensor (Q, G, P).

Papers: DETR (ECCV 2020), MaskFormer (NeurIPS 2021), Mask2Former (CVPR 2022). Released code: their matcher.py.

Shapes: Q queries, G objects, C classes, P points or pixels; leading axes (...), such as one for decoder layers,
are all computed at once. Arithmetic is float32 (float64 for float64) whatever the dtype and the autocast state.

Deliberate differences from the released code and from mmdet's costs:

- Binary costs are one matrix product: with target t, cost(x, t) = cost(x, 0) + t (cost(x, 1) - cost(x, 0)). For cross
  entropy the difference is -x, which leaves one softplus.
- Logarithms of probabilities come from a softplus of the logit: no overflow, and no cancellation where p is near 1.
- Points can be ignored: each has a weight (``valid``).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.device import cpu_kernels, full_dtype, full_precision, without_autocast
from mmplugins.functional.sets.boxes import check_boxes

BOX_FORMATS = ('xyxy', 'xywh')


def classification_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """Computes minus the softmax probability of each object's class.

    Args:
        logits: Class logits, shape (..., Q, C), any floating dtype; C includes no-object where there is one.
        labels: Class indices, int64, shape (G,).

    Returns:
        Costs in [-1, 0], shape (..., Q, G).
    """
    return -_of_labels(full_precision(logits).softmax(-1), labels)


def focal_label_cost(
    logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0, eps: float = 1e-12
) -> Tensor:
    """Computes the change of the sigmoid focal loss when the object's class is 1 instead of 0.

    Args:
        logits: Class logits, shape (..., Q, C), any floating dtype.
        labels: Class indices, int64, shape (G,).
        alpha: Factor of the loss of a 1, that of a 0 is 1 - alpha.
        gamma: Power of the probability of the wrong answer.
        eps: Smallest probability of which a logarithm is taken; 0: as small as it gets.

    Returns:
        Costs, shape (..., Q, G).
    """
    negative, positive = _focal_terms(_of_labels(full_precision(logits), labels), alpha, gamma, eps)
    return positive - negative


def box_l1_cost(boxes1: Tensor, boxes2: Tensor, size: tuple[float, float] = (1, 1), box_format: str = 'xyxy') -> Tensor:
    """Computes the sum of the absolute differences of four coordinates.

    Args:
        boxes1: x1, y1, x2, y2, shape (..., Q, 4), in any unit.
        boxes2: The same unit, shape (..., G, 4).
        size: Width and height that coordinates are divided by, in the same unit.
        box_format: What is compared: 'xyxy', the two corners, or 'xywh', centre and size.

    Returns:
        Costs, shape (..., Q, G).

    Raises:
        ValueError: The last axis does not have four entries, or the format is unknown.
    """
    if box_format not in BOX_FORMATS:
        raise ValueError(f"box_format must be one of {BOX_FORMATS}, got {box_format!r}; DETR compares 'xywh'")
    first, second = check_boxes(boxes1).unbind(-1), check_boxes(boxes2).unbind(-1)
    if box_format == 'xywh':
        first, second = (((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1) for x1, y1, x2, y2 in (first, second))
    total = None
    for ours, theirs, side in zip(first, second, (*size, *size), strict=True):
        if side != 1:  # a number, not a tensor: that would have to be copied to the device
            ours, theirs = ours / side, theirs / side
        difference = (ours.unsqueeze(-1) - theirs.unsqueeze(-2)).abs_()  # (..., Q, G)
        total = difference if total is None else total.add_(difference)
    return total


def bce_mask_cost(logits: Tensor, masks: Tensor, valid: Tensor | None = None) -> Tensor:
    """Computes the mean binary cross entropy over the points, as (sum of softplus(x) - x t) / P.

    Args:
        logits: Mask logits, shape (..., Q, P), any floating dtype.
        masks: Values in [0, 1], any dtype, shape (..., G, P), or (G, P) for all leading axes.
        valid: Weight of each point, any dtype, shape (..., P) or (P,); an ignored one has 0. None: all have 1.

    Returns:
        Costs, shape (..., Q, G); 0 where all points are ignored.

    Raises:
        ValueError: Numbers of points differ.
    """

    def cost(logits: Tensor, masks: Tensor, valid: Tensor | None) -> Tensor:
        entropy = _point_sum(F.softplus(logits), valid)  # (..., Q), of an empty mask
        return (entropy.unsqueeze(-1) - _pair_sum(logits, _weighted(masks, valid))) / _count(logits, valid)

    return _by_layer(cost, logits, masks, valid)


def focal_mask_cost(
    logits: Tensor,
    masks: Tensor,
    valid: Tensor | None = None,
    alpha: float = 0.25,
    gamma: float = 2.0,
    eps: float = 1e-12,
) -> Tensor:
    """Computes the mean sigmoid focal loss over the points.

    Args:
        logits: Mask logits, shape (..., Q, P), any floating dtype.
        masks: Values in [0, 1], any dtype, shape (..., G, P), or (G, P) for all leading axes.
        valid: Weight of each point, any dtype, shape (..., P) or (P,); an ignored one has 0. None: all have 1.
        alpha: Factor of the loss of a 1, that of a 0 is 1 - alpha.
        gamma: Power of the probability of the wrong answer.
        eps: Smallest probability of which a logarithm is taken; 0: as small as it gets.

    Returns:
        Costs, shape (..., Q, G); 0 where all points are ignored.

    Raises:
        ValueError: Numbers of points differ.
    """

    def cost(logits: Tensor, masks: Tensor, valid: Tensor | None) -> Tensor:
        negative, positive = _focal_terms(logits, alpha, gamma, eps)
        change = _pair_sum(positive - negative, _weighted(masks, valid))
        return (_point_sum(negative, valid).unsqueeze(-1) + change) / _count(logits, valid)

    return _by_layer(cost, logits, masks, valid)


def dice_mask_cost(
    pred: Tensor,
    masks: Tensor,
    valid: Tensor | None = None,
    eps: float = 1e-3,
    naive: bool = True,
    sigmoid: bool = False,
) -> Tensor:
    """Computes 1 - (2 sum(p t) + eps) / (sum(p) + sum(t) + eps) over the points.

    Args:
        pred: Probabilities, or logits of them, shape (..., Q, P), any floating dtype.
        masks: Values in [0, 1], any dtype, shape (..., G, P), or (G, P) for all leading axes.
        valid: Weight of each point, any dtype, shape (..., P) or (P,); an ignored one has 0. None: all have 1.
        eps: Smoothing term.
        naive: False squares p and t in the denominator.
        sigmoid: Whether ``pred`` holds logits.

    Returns:
        Costs, shape (..., Q, G).

    Raises:
        ValueError: Numbers of points differ.
    """

    def cost(pred: Tensor, masks: Tensor, valid: Tensor | None) -> Tensor:
        prob = pred.sigmoid() if sigmoid else pred
        counted = _weighted(masks, valid)
        size = _point_sum(prob if naive else prob.square(), valid).unsqueeze(-1)  # (..., Q, 1)
        size_object = (counted if naive else counted * masks).sum(-1).unsqueeze(-2)  # (..., 1, G)
        return 1 - (2 * _pair_sum(prob, counted) + eps) / (size + size_object + eps)

    return _by_layer(cost, pred, masks, valid)


def _of_labels(x: Tensor, labels: Tensor) -> Tensor:
    """Takes the class of each object: (..., Q, C) and (G,) to (..., Q, G)."""
    if labels.dim() != 1 or labels.is_floating_point():
        raise ValueError(
            f'expected integer labels (G,), got {tuple(labels.shape)} of {labels.dtype}; give each object one class'
        )
    return x.index_select(-1, labels.long())


def _focal_terms(logits: Tensor, alpha: float, gamma: float, eps: float) -> tuple[Tensor, Tensor]:
    """Focal loss of every logit where the target is 0, and where it is 1."""
    not_p = F.softplus(logits)  # -log(1 - p)
    not_q = not_p - logits  # -log(p)
    prob, rest = torch.exp(-not_q), torch.exp(-not_p)
    if eps > 0:
        not_p, not_q = not_p.clamp(max=-math.log(eps)), not_q.clamp(max=-math.log(eps))
    return (1 - alpha) * prob.pow(gamma) * not_p, alpha * rest.pow(gamma) * not_q


def _by_layer(
    cost: Callable[[Tensor, Tensor, Tensor | None], Tensor], pred: Tensor, masks: Tensor, valid: Tensor | None
) -> Tensor:
    """Computes a cost of masks in the dtype of computation, on the CPU one entry of the first axis after the other.

    There what is made of a layer then takes memory that the last one has left, instead of new pages from the system.
    """
    points = [pred.shape[-1], masks.shape[-1], *([] if valid is None else [valid.shape[-1]])]
    if len(set(points)) > 1:
        raise ValueError(
            f'predictions (..., Q, P) {tuple(pred.shape)}, masks (..., G, P) {tuple(masks.shape)} and valid (..., P) '
            f'{None if valid is None else tuple(valid.shape)} must have the same number of points, got {points}; '
            'sample or resize them alike'
        )
    if cpu_kernels(pred) and pred.dim() == 3 and len(pred) > 1:
        layers = range(len(pred))
        masks = masks if masks.dim() == 3 else masks.to(full_dtype(pred)).expand(len(pred), -1, -1)
        valids = [None] * len(pred) if valid is None else valid.expand(len(pred), -1)
        return torch.stack([_by_layer(cost, pred[layer], masks[layer], valids[layer]) for layer in layers])
    pred = full_precision(pred)
    return cost(pred, masks.to(pred.dtype), None if valid is None else valid.to(pred.dtype))


def _count(pred: Tensor, valid: Tensor | None) -> Tensor | int:
    """Returns the sum of the weights of the points, (..., 1, 1), but 1 where it is 0."""
    if valid is None:
        return max(pred.shape[-1], 1)
    count = valid.sum(-1)[..., None, None]
    return torch.where(count > 0, count, 1)


def _weighted(masks: Tensor, valid: Tensor | None) -> Tensor:
    """Multiplies masks (..., G, P) by the weights of the points, (..., P)."""
    return masks if valid is None else masks * valid.unsqueeze(-2)


def _point_sum(x: Tensor, valid: Tensor | None) -> Tensor:
    """Sums (..., Q, P) over the points with their weights, (..., Q)."""
    return x.sum(-1) if valid is None else _pair_sum(x, valid.unsqueeze(-2)).squeeze(-1)


def _pair_sum(x: Tensor, y: Tensor) -> Tensor:
    """Sums the product of every row of x with every row of y: (..., Q, P) and (..., G, P) to (..., Q, G)."""
    with without_autocast(x.device):
        return x @ y.mT
