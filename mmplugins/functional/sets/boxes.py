"""Axis-aligned boxes: conversions, and overlaps that stay finite for boxes without an area.

Paper: DETR (ECCV 2020); generalised IoU: Rezatofighi et al. (CVPR 2019). Released code: DETR's util/box_ops.py.

Deliberate differences from the released code and from mmdet's ``bbox_overlaps``:

- A box of zero or negative width or height has area 0, and the more it is inside out, the lower its GIoU. The released
  code asserts that there is none; mmdet takes the product of two negative sides for an area.
- Denominators are at least 1e-12 (mmdet: 1e-6, above the area of a pixel's box on a unit image), so that values
  and gradients are finite. Between two boxes without area at one place IoU and GIoU are 0.
- A pairwise overlap never makes a tensor (..., Q, G, 2), but one of (..., Q, G) for each axis.

NaN and infinite coordinates give NaN, which the matching reports.
"""

import torch
from torch import Tensor

from mmplugins.functional.device import full_precision

OVERLAP_MODES = ('iou', 'iof', 'giou')
_MIN_AREA = 1e-12


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Converts boxes from centre and size to two corners.

    Args:
        boxes: cx, cy, w, h, shape (..., 4), in any unit.

    Returns:
        x1, y1, x2, y2 in the same unit, shape (..., 4).

    Raises:
        ValueError: The last axis does not have four entries.
    """
    cx, cy, w, h = check_boxes(boxes).unbind(-1)
    return torch.stack((cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Converts boxes from two corners to centre and size.

    Args:
        boxes: x1, y1, x2, y2, shape (..., 4), in any unit.

    Returns:
        cx, cy, w, h in the same unit, shape (..., 4).

    Raises:
        ValueError: The last axis does not have four entries.
    """
    x1, y1, x2, y2 = check_boxes(boxes).unbind(-1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), dim=-1)


def pairwise_overlap(boxes1: Tensor, boxes2: Tensor, mode: str = 'giou') -> Tensor:
    """Computes the overlap of every box of one set with every box of another.

    Args:
        boxes1: x1, y1, x2, y2, shape (..., Q, 4), in any unit.
        boxes2: The same unit, shape (..., G, 4); leading axes broadcast with those of ``boxes1``.
        mode: 'iou'; 'iof', intersection over the area of ``boxes1``; or 'giou'.

    Returns:
        Overlaps, shape (..., Q, G), float32 (float64 for float64): in [0, 1], in [-1, 1] for 'giou'.

    Raises:
        ValueError: The mode is unknown or the last axis does not have four entries.
    """
    boxes1, boxes2 = check_boxes(boxes1), check_boxes(boxes2)
    return _overlap(boxes1.unsqueeze(-2).unbind(-1), boxes2.unsqueeze(-3).unbind(-1), mode)


def aligned_overlap(boxes1: Tensor, boxes2: Tensor, mode: str = 'giou') -> Tensor:
    """Computes the overlap of each box with the one at the same place of another set.

    Args:
        boxes1: x1, y1, x2, y2, shape (..., 4), in any unit.
        boxes2: The same unit, shape (..., 4); leading axes broadcast with those of ``boxes1``.
        mode: As for ``pairwise_overlap``.

    Returns:
        Overlaps, shape (...), float32 (float64 for float64).

    Raises:
        ValueError: The mode is unknown or the last axis does not have four entries.
    """
    return _overlap(check_boxes(boxes1).unbind(-1), check_boxes(boxes2).unbind(-1), mode)


def check_boxes(boxes: Tensor) -> Tensor:
    """Returns boxes in float32 (float64 for float64).

    Raises:
        ValueError: The last axis does not have four entries.
    """
    if boxes.dim() == 0 or boxes.shape[-1] != 4:
        raise ValueError(f'expected boxes (..., 4), got {tuple(boxes.shape)}; give four coordinates a box')
    return full_precision(boxes)


def check_overlap_mode(mode: str) -> str:
    """Returns the mode if there is one of that name, else raises ValueError."""
    if mode not in OVERLAP_MODES:
        raise ValueError(f"mode must be one of {OVERLAP_MODES}, got {mode!r}; DETR's cost and loss use 'giou'")
    return mode


def _overlap(first: tuple[Tensor, ...], second: tuple[Tensor, ...], mode: str) -> Tensor:
    """Computes overlaps from x1, y1, x2, y2 of both sets, each set's four of one shape that broadcasts.

    1. Along each axis: the signed length of the intersection, min of the ends minus max of the starts.
    2. Intersection and union; a side that is not positive counts as 0.
    3. GIoU = IoU + union / enclosure - 1. The enclosure's side along an axis is the sum of both sides minus the signed
       intersection; for boxes that are not inside out that is max of the ends minus min of the starts.
    """
    check_overlap_mode(mode)
    x1, y1, x2, y2 = first
    u1, v1, u2, v2 = second
    width1, height1 = (x2 - x1).clamp(min=0), (y2 - y1).clamp(min=0)
    width2, height2 = (u2 - u1).clamp(min=0), (v2 - v1).clamp(min=0)
    across = torch.minimum(x2, u2).sub_(torch.maximum(x1, u1))  # step 1; in place: memory is what takes the time
    along = torch.minimum(y2, v2).sub_(torch.maximum(y1, v1))
    inter = across.clamp(min=0).mul_(along.clamp(min=0))  # step 2
    area1, area2 = width1 * height1, width2 * height2
    if mode == 'iof':
        return inter.div_(area1.clamp(min=_MIN_AREA))
    union = (area1 + area2).sub_(inter).clamp_(min=_MIN_AREA)
    iou = inter.div_(union)
    if mode == 'iou':
        return iou
    enclosure = (width1 + width2).sub_(across).mul_((height1 + height2).sub_(along))  # step 3
    return iou.addcdiv_(union, enclosure.clamp_(min=_MIN_AREA)).sub_(1)
