"""Region similarity J and boundary accuracy F of objects in a video, and DAVIS's statistics of them.

Paper: A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation (CVPR 2016), section 5. Released
code: davis2017-evaluation, ``metrics.py`` and ``utils.py``. J and F of one frame are computed by PyPI's vos-benchmark.
"""

from collections.abc import Iterable, Sequence
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import cv2
import numpy as np

INSTALL = 'pip install vos-benchmark==0.1.0'
VOID = 255
BINS = 4  # parts of a series, for its decay


class SeriesStatistics(NamedTuple):
    """Statistics of the values of one object over the frames of a video.

    Attributes:
        mean: Of all values.
        recall: Share of values above 0.5.
        decay: Mean of the first quarter minus mean of the last one.
    """

    mean: float
    recall: float
    decay: float


def object_scores(prediction: np.ndarray, truth: np.ndarray, objects: Iterable[int]) -> dict[int, tuple[float, float]]:
    """Computes J and F of each object in one frame.

    1. Pixels that are void in the annotation are background in both masks.
    2. J is the intersection of the two regions over their union; 1 if both are empty.
    3. A boundary pixel is one whose right, lower or lower right neighbour is not of its side. It matches if the other
       boundary comes within 0.008 times the image's diagonal, rounded up to whole pixels, of it.
    4. F is the harmonic mean of the matched shares of both boundaries; 1 if both are empty, 0 if one is.

    Args:
        prediction: Object of each pixel, integer from 0 to 255, shape (H, W); 0 is background.
        truth: The annotation, likewise; 255 is void.
        objects: Numbers of the objects to score.

    Returns:
        J and F, in [0, 1], by object.

    Raises:
        ImportError: vos-benchmark is not installed.
        ValueError: The shapes differ.

    Examples:
        >>> truth = np.zeros((8, 8), np.uint8)
        >>> truth[2:6, 2:6] = 1
        >>> object_scores(np.roll(truth, 2, axis=1), truth, [1, 2])
        {1: (0.3333333333333333, 0.6896551724137931), 2: (1.0, 1.0)}
    """
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(f'prediction and truth must have one shape (H, W), got {prediction.shape} and {truth.shape}')
    evaluator = import_evaluator().Evaluator(boundary=0.008)
    numbers = sorted(set(objects) - {0, VOID})
    table = np.zeros(256, np.uint8)
    table[numbers] = numbers
    masks = [cv2.LUT(np.ascontiguousarray(mask, np.uint8), table) for mask in (prediction, truth)]
    masks[0][truth == VOID] = 0
    evaluator.feed_frame(*masks)
    # The evaluator knows the objects that it has seen; one that is in neither mask is right.
    regions, boundaries = evaluator.object_iou, evaluator.boundary_f
    return {
        number: (float(regions[number][0]), float(boundaries[number][0])) if number in regions else (1.0, 1.0)
        for number in numbers
    }


def series_statistics(values: Sequence[float]) -> SeriesStatistics:
    """Computes the statistics of an object's J or F, frame by frame.

    The quarters share the frame at which one ends and the next begins, as in the released code.

    Args:
        values: One for each frame, in order; at least one.

    Raises:
        ValueError: There are no values.

    Examples:
        >>> series_statistics([1.0, 0.75, 0.75, 0.5, 0.25])
        SeriesStatistics(mean=0.65, recall=0.6, decay=0.5)
    """
    series = np.asarray(values, np.float64)
    if series.ndim != 1 or not len(series):
        raise ValueError(f'statistics need a value for at least one frame, got an array of shape {series.shape}')
    edges = np.round(np.linspace(0, len(series) - 1, BINS + 1) + 1e-10).astype(int)
    first, last = series[edges[0] : edges[1] + 1], series[edges[-2] : edges[-1] + 1]
    return SeriesStatistics(float(series.mean()), float((series > 0.5).mean()), float(first.mean() - last.mean()))


def import_evaluator() -> ModuleType:
    """Imports vos-benchmark's module; raises ImportError, which says what to install."""
    try:
        return import_module('vos_benchmark.evaluator')
    except ImportError as error:
        raise ImportError(f'VOSMetric needs vos-benchmark ({error}); run `{INSTALL}`') from error
