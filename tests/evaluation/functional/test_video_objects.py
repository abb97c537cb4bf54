import math
import sys

import numpy as np
import pytest
from PIL import Image

from mmplugins.evaluation.functional import object_scores, series_statistics
from tests.locations import data_root


def blocks(shape=(40, 60), **places):
    """A mask with a square of 12 pixels at (top, left) for each object ``o1``, ``o2`` and so on."""
    mask = np.zeros(shape, np.uint8)
    for name, (top, left) in places.items():
        mask[top : top + 12, left : left + 12] = int(name[1:])
    return mask


def boundary(region):
    """Boundary pixels one by one: the right, lower or lower right neighbour is on the other side."""
    height, width = region.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if any(
            y + down < height and x + right < width and region[y, x] != region[y + down, x + right]
            for down, right in ((0, 1), (1, 0), (1, 1))
        )
    ]


def by_hand(prediction, truth):
    """J and F of two regions by their definitions, pixel by pixel."""
    union = (prediction | truth).sum()
    region = (prediction & truth).sum() / union if union else 1.0
    reach = math.ceil(0.008 * math.hypot(*truth.shape))

    def share(pixels, others):
        near = [any((y - v) ** 2 + (x - u) ** 2 <= reach**2 for v, u in others) for y, x in pixels]
        return sum(near) / len(near)

    ours, theirs = boundary(prediction), boundary(truth)
    if not ours and not theirs:
        return region, 1.0
    if not ours or not theirs:
        return region, 0.0
    precision, recall = share(ours, theirs), share(theirs, ours)
    return region, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_smoke():
    mask = blocks(o1=(5, 5), o2=(20, 30))
    assert object_scores(mask, mask, [1, 2]) == {1: (1.0, 1.0), 2: (1.0, 1.0)}


def test_shapes():
    with pytest.raises(ValueError, match=r'must have one shape \(H, W\), got \(40, 60\) and \(40, 61\)'):
        object_scores(blocks(), blocks((40, 61)), [1])


def test_half_overlap_by_hand():
    """Squares of 12, one moved by 6: 72 of 216 pixels are in both.

    Of the boundaries, each on a frame of 13 by 13 (48 pixels), the upper and lower edges overlap and one corner column
    lies inside the other square.
    """
    truth = blocks(o1=(10, 10))
    (region, edge) = object_scores(np.roll(truth, 6, axis=1), truth, [1])[1]
    assert region == pytest.approx(1 / 3)
    assert 0 < edge < 1
    assert edge == pytest.approx(by_hand(np.roll(truth, 6, axis=1) == 1, truth == 1)[1])


@pytest.mark.parametrize('seed', range(6))
def test_random_masks_by_hand(seed):
    """Smooth blobs, the image's edge included; with 125 rows the tolerance is two pixels, with 40 it is one."""
    rng = np.random.default_rng(seed)
    shape = (125, 160) if seed == 0 else (40, 60)

    def blob():
        noise = rng.random((5, 7)).repeat(-(-shape[0] // 5), 0).repeat(-(-shape[1] // 7), 1)[: shape[0], : shape[1]]
        return (noise * 3).astype(np.uint8)

    prediction, truth = blob(), blob()
    prediction[rng.random(shape) < 0.02] = 1
    scores = object_scores(prediction, truth, [1, 2])
    for number in (1, 2):
        assert scores[number] == pytest.approx(by_hand(prediction == number, truth == number))


def test_tolerance():
    """In 40x60 pixels 0.008 of the diagonal is 0.58, hence one pixel."""
    truth = blocks(o1=(10, 10))
    assert object_scores(np.roll(truth, 1, axis=1), truth, [1])[1][1] == 1
    assert object_scores(np.roll(truth, 2, axis=1), truth, [1])[1][1] < 1


def test_empty_masks():
    mask, empty = blocks(o1=(5, 5)), blocks()
    assert object_scores(empty, empty, [1]) == {1: (1.0, 1.0)}
    assert object_scores(mask, empty, [1]) == {1: (0.0, 0.0)}
    assert object_scores(empty, mask, [1]) == {1: (0.0, 0.0)}


def test_only_the_objects_that_are_asked_for():
    mask = blocks(o1=(5, 5), o3=(20, 30))
    assert object_scores(mask, np.where(mask == 3, 0, mask), [1]) == {1: (1.0, 1.0)}
    assert object_scores(mask, mask, []) == {}


def test_void_pixels_do_not_count():
    """Half of the object is void: what is predicted there is neither right nor wrong."""
    truth = blocks(o1=(10, 10))
    prediction = truth.copy()
    truth[10:16, 10:22] = 255
    assert object_scores(prediction, truth, [1]) == {1: (1.0, 1.0)}
    prediction[10:16] = 2
    assert object_scores(prediction, truth, [1, 2]) == {
        1: (1.0, 1.0),
        2: pytest.approx(by_hand((prediction == 2) & (truth != 255), truth == 2)),
    }


def test_int64_masks():
    mask = blocks(o1=(5, 5)).astype(np.int64)
    assert object_scores(mask, mask, [1]) == {1: (1.0, 1.0)}


def test_values_of_real_masks():
    """DAVIS annotations 10 frames apart, against the definition computed by distance transforms."""
    folder = data_root('davis') / 'Annotations' / '480p' / 'dog'
    from scipy.ndimage import distance_transform_edt

    first, later = (np.array(Image.open(folder / f'{index:05d}.png')) for index in (0, 10))
    edges = []
    for mask in (later, first):
        padded = np.pad(mask == 1, ((0, 1), (0, 1)), mode='edge')
        inner = padded[:-1, :-1]
        edges.append((inner != padded[:-1, 1:]) | (inner != padded[1:, :-1]) | (inner != padded[1:, 1:]))
    reach = math.ceil(0.008 * math.hypot(*first.shape))
    precision, recall = ((distance_transform_edt(~other)[edge] <= reach).mean() for edge, other in (edges, edges[::-1]))
    region, edge = object_scores(later, first, [1])[1]
    assert region == pytest.approx((first & later).sum() / (first | later).sum())
    assert edge == pytest.approx(2 * precision * recall / (precision + recall))
    assert 0.1 < edge < 0.9


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ([0.5], (0.5, 0, 0)),
        ([1, 0], (0.5, 0.5, 1)),  # a frame is the first quarter, the other the last
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], (0.5, 4 / 9, 0.8 - 0.2)),  # three values a quarter
        ([1, 1, 0, 0, 0], (0.4, 0.4, 1)),  # edges at 0, 1, 2, 3, 4: the mean of 1, 1 minus that of 0, 0
    ],
)
def test_statistics(values, expected):
    assert series_statistics(values) == pytest.approx(expected)


def test_statistics_of_nothing():
    with pytest.raises(ValueError, match=r'a value for at least one frame, got an array of shape \(0,\)'):
        series_statistics([])


def test_without_vos_benchmark(monkeypatch):
    monkeypatch.setitem(sys.modules, 'vos_benchmark.evaluator', None)
    with pytest.raises(ImportError, match=r'VOSMetric needs vos-benchmark .*; run `pip install vos-benchmark==0.1.0`'):
        object_scores(blocks(), blocks(), [1])
