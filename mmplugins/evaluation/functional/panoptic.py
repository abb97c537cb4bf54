"""Panoptic quality.

Paper: Panoptic Segmentation (CVPR 2019). Released code: panopticapi's evaluation.py, which is on no package index.
Its rules are followed: of several crowds of a class in an image only the last one excuses a prediction, and pixels of
a segment that the annotations do not list are neither void nor a segment. Deliberate differences: areas are counted in
the images, not read from the annotations; an average over no class is NaN, not a division by zero.

Shapes: H W image size, C classes.
"""

from collections.abc import Mapping

import numpy as np

VOID = 0
IOU, TRUE_POSITIVES, FALSE_POSITIVES, FALSE_NEGATIVES = range(4)


def count_segments(
    truth: np.ndarray,
    truth_classes: Mapping[int, int],
    crowds: Mapping[int, int],
    prediction: np.ndarray,
    prediction_classes: Mapping[int, int],
    num_classes: int,
) -> np.ndarray:
    """Compares the segments of one image.

    1. An annotated and a predicted segment of one class match if their intersection over union, without void pixels, is
       above 0.5; a segment has at most one match.
    2. Annotated segments without a match are false negatives.
    3. Predicted segments without a match are false positives, unless more than half of one is void or the last crowd of
       its class.

    Args:
        truth: Annotated segment of each pixel, integers below 2^31, shape (H, W); 0 is void.
        truth_classes: Class, 0 to C - 1, of each annotated segment.
        crowds: Class of each segment that is a crowd, in the annotations' order.
        prediction: Predicted segment of each pixel, likewise; what is not in the mapping is no segment.
        prediction_classes: Class of each predicted segment.
        num_classes: C.

    Returns:
        float64 (C, 4): sum of IoU over the matches, number of matches, of false positives, of false negatives.
    """
    counts = np.zeros((num_classes, 4))
    pairs, sizes = np.unique((truth.astype(np.int64) << 32) + prediction, return_counts=True)
    table = {(int(pair >> 32), int(pair & 0xFFFFFFFF)): int(size) for pair, size in zip(pairs, sizes, strict=True)}
    truth_area, area, void = {}, {}, {}
    for (one, other), size in table.items():
        truth_area[one] = truth_area.get(one, 0) + size
        area[other] = area.get(other, 0) + size
        if one == VOID:
            void[other] = void.get(other, 0) + size
    last_crowd = {own: crowd for crowd, own in crowds.items()}  # of each class
    matched_truth, matched = set(), set()
    for (one, other), intersection in table.items():  # step 1
        index = truth_classes.get(one)
        if index is None or index != prediction_classes.get(other):
            continue
        iou = intersection / (truth_area[one] + area[other] - intersection - void.get(other, 0))
        if iou > 0.5:
            counts[index, [IOU, TRUE_POSITIVES]] += iou, 1
            matched_truth.add(one)
            matched.add(other)
    for one, index in truth_classes.items():  # step 2
        counts[index, FALSE_NEGATIVES] += one not in matched_truth
    for other, index in prediction_classes.items():  # step 3
        if other in area and other not in matched:
            excused = void.get(other, 0) + table.get((last_crowd.get(index), other), 0)
            counts[index, FALSE_POSITIVES] += excused <= 0.5 * area[other]
    return counts


def panoptic_quality(counts: np.ndarray) -> np.ndarray:
    """Returns the quality of each class (equation 1 of the paper).

    Args:
        counts: What ``count_segments`` returns, summed over images, (C, 4).

    Returns:
        float64 (C, 3): panoptic, segmentation and recognition quality in [0, 1]; NaN for a class with no segment.
    """
    iou, matches, wrong, missed = counts.T
    total = matches + 0.5 * wrong + 0.5 * missed
    with np.errstate(invalid='ignore', divide='ignore'):
        segmentation = np.where(matches > 0, iou / matches, 0.0)
        quality = np.stack([iou / total, segmentation, matches / total], axis=1)
    quality[total == 0] = np.nan
    return quality
