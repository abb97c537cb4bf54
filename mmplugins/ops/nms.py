"""Non-maximum suppression with mmcv's arguments: greedy, soft, and in groups.

Greedy suppression goes through the boxes in the order of their scores, a block at a time: the block's boxes against one
another on the host, then all later boxes against those that were kept, at once and on their device. The overlaps are
computed in float32 and in the order of mmcv's kernel (``ops/csrc/pytorch/cpu/nms.cpp``), so that a box at the very
threshold is treated alike. Boxes of other dtypes are computed in float32 too; mmcv's kernel refuses them.

Soft suppression: Bodla et al., ICCV 2017. It lowers scores one box after the other, so it runs on the host.
"""

import numpy as np
import torch
from torch import Tensor

from .vision import torchvision_operator

_CPU_BLOCK, _BLOCK = 128, 1024  # boxes that are settled at once


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Finds the boxes that no kept box of a higher score overlaps by more than a threshold.

    Args:
        boxes: (N, 4), x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: Overlap (IoU) above which a box goes.
        offset: 1 if x2 and y2 are the last pixels of a box, 0 if they are its edges.

    Returns:
        (K,), int64, indices of the boxes kept, scores descending.
    """
    vision = torchvision_operator('nms', boxes.device) if offset == 0 else None
    if vision is not None:
        return vision(boxes.float(), scores.float(), iou_threshold)
    order = scores.sort(descending=True).indices  # not stable: among equal scores the order is that of mmcv
    boxes = boxes.float()[order]
    alive = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    step = _CPU_BLOCK if boxes.device.type == 'cpu' else _BLOCK
    for start in range(0, len(order), step):
        block = start + alive[start : start + step].nonzero()[:, 0]
        candidates = boxes[block]
        kept = _settle(_overlaps(candidates, candidates, offset) > iou_threshold)
        alive[block] = kept
        rest = slice(start + step, None)
        if start + step < len(order):
            alive[rest] &= ~(_overlaps(candidates[kept], boxes[rest], offset) > iou_threshold).any(0)
    return order[alive]


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Groups boxes: each that greedy suppression keeps, and those that it suppresses.

    Args:
        dets: (N, 5), x1, y1, x2, y2, score.
        iou_threshold: Overlap (IoU) from which a box goes.

    Returns:
        For each box kept, scores descending: its index, then those of its group, scores descending.
    """
    order = dets[:, 4].contiguous().sort(descending=True).indices
    boxes = dets[order, :4].float()
    order, alive = order.cpu().numpy(), np.ones(len(order), bool)
    groups = []
    for i in range(len(order)):
        if not alive[i]:
            continue
        overlaps = _overlaps(boxes[i : i + 1], boxes[i + 1 :], 0)[0]
        near = (overlaps >= iou_threshold).cpu().numpy() & alive[i + 1 :]
        alive[i + 1 :][near] = False
        groups.append([int(order[i]), *order[i + 1 :][near].tolist()])
    return groups


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Takes box after box of the highest score, and lowers the scores of those that overlap it.

    Args:
        boxes: (N, 4), x1, y1, x2, y2, on the CPU.
        scores: (N,).
        dets: (N, 5); boxes and lowered scores are written into the first rows.
        iou_threshold: Overlap (IoU) from which a score is lowered; not used by method 2.
        sigma: Of method 2.
        min_score: Boxes whose lowered score is below it go.
        method: 0 sets scores to 0, 1 multiplies by 1 - IoU, 2 by ``exp(-IoU^2 / sigma)``.
        offset: As for ``nms``.

    Returns:
        (K,), int64, indices of the boxes left, in the order in which they were taken.
    """
    left = np.concatenate([boxes.detach().float().numpy(), scores.detach().float().numpy()[:, None]], 1)
    index = np.arange(len(left))
    threshold, sigma, min_score = np.float32(iou_threshold), np.float32(sigma), np.float32(min_score)
    i = 0
    while i < len(left):
        best = i + int(left[i:, 4].argmax())
        for array in (left, index):  # as mmcv's kernel swaps, which decides between equal scores
            array[[i, best]] = array[[best, i]]
        rest = left[i + 1 :]
        overlap = _overlaps(torch.from_numpy(left[i : i + 1, :4]), torch.from_numpy(rest[:, :4]), offset)[0].numpy()
        if method == 2:
            rest[:, 4] *= np.exp(-(overlap * overlap) / sigma)
        else:
            near = overlap >= threshold
            rest[near, 4] *= 0 if method == 0 else 1 - overlap[near]
        stays = rest[:, 4] >= min_score
        # mmcv's kernel fills the place of each box that goes with the last that stays.
        place = np.arange(len(rest))
        count = int(stays.sum())
        place[:count][~stays[:count]] = place[count:][stays[count:]][::-1]
        left = np.concatenate([left[: i + 1], rest[place[:count]]])
        index = np.concatenate([index[: i + 1], index[i + 1 :][place[:count]]])
        i += 1
    dets[: len(left)] = torch.from_numpy(left).to(dets)
    return torch.from_numpy(index)


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int = 0, aligned: bool = False, offset: int = 0
) -> None:
    """Computes overlaps of boxes, as mmcv's operator of this name.

    Args:
        bboxes1: (M, 4), x1, y1, x2, y2.
        bboxes2: (N, 4); (M, 4) if ``aligned``.
        ious: (M, N), or (M,) if ``aligned``; written.
        mode: 0 divides by the union, 1 by the area of the first.
        aligned: Whether to compare box by box.
        offset: As for ``nms``.
    """
    first, second = (bboxes1, bboxes2) if aligned else (bboxes1[:, None], bboxes2[None])
    shared = _shared(first, second, offset)
    area = _area(first, offset)
    ious.copy_(shared / (area + _area(second, offset) - shared if mode == 0 else area))


def _settle(suppresses: Tensor) -> Tensor:
    """Goes through a block's boxes in order; returns which are kept, on the device of ``suppresses``."""
    table = suppresses.cpu().numpy()
    kept = np.ones(len(table), bool)
    for i in range(len(table)):
        if kept[i]:
            kept[i + 1 :] &= ~table[i, i + 1 :]
    return torch.from_numpy(kept).to(suppresses.device)


def _overlaps(first: Tensor, second: Tensor, offset: int) -> Tensor:
    """Returns the IoU of all pairs, (M, N)."""
    first, second = first[:, None], second[None]
    shared = _shared(first, second, offset)
    return shared / (_area(first, offset) + _area(second, offset) - shared)


def _shared(first: Tensor, second: Tensor, offset: int) -> Tensor:
    width = torch.minimum(first[..., 2], second[..., 2]) - torch.maximum(first[..., 0], second[..., 0])
    height = torch.minimum(first[..., 3], second[..., 3]) - torch.maximum(first[..., 1], second[..., 1])
    return width.add_(offset).clamp_(min=0) * height.add_(offset).clamp_(min=0)


def _area(boxes: Tensor, offset: int) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0] + offset) * (boxes[..., 3] - boxes[..., 1] + offset)
