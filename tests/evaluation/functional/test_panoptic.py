import numpy as np
import pytest

from mmplugins.evaluation.functional import count_segments, panoptic_quality


def rectangle(shape, top, bottom, left, right):
    mask = np.zeros(shape, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def counts_of(truth, truth_classes, prediction, prediction_classes, crowds=None, num_classes=3):
    return count_segments(
        np.array(truth), truth_classes, crowds or {}, np.array(prediction), prediction_classes, num_classes
    )


def test_by_hand():
    """Ten pixels in a row; classes 0 (things) and 1 (stuff).

    Truth: segment 1 (class 0) four pixels, segment 2 (class 0) two, segment 3 (class 1) three, one void (0).
    Prediction: segment 10 (class 0) the first three and nothing else: IoU 3/4, a match. Segment 11 (class 0): one
    pixel of segment 1, one of segment 2 and one of segment 3: no match, a false positive; so segment 2 is a false
    negative. Segment 12 (class 1): the other two of segment 3 and the void pixel, which is left out: IoU 2/3, a match.
    One pixel of segment 2 has no prediction (99).
    """
    truth = [[1, 1, 1, 1, 2, 2, 3, 3, 3, 0]]
    prediction = [[10, 10, 10, 11, 11, 99, 11, 12, 12, 12]]
    counts = counts_of(truth, {1: 0, 2: 0, 3: 1}, prediction, {10: 0, 11: 0, 12: 1})
    np.testing.assert_allclose(counts, [[0.75, 1, 1, 1], [2 / 3, 1, 0, 0], [0, 0, 0, 0]])
    quality = panoptic_quality(counts)
    np.testing.assert_allclose(quality[0], [0.375, 0.75, 0.5])  # 0.75 / (1 + 0.5 + 0.5)
    np.testing.assert_allclose(quality[1], [2 / 3, 2 / 3, 1])
    assert np.isnan(quality[2]).all()


def test_half_is_no_match():
    counts = counts_of([[1, 1, 1, 1]], {1: 0}, [[5, 5, 6, 6]], {5: 0, 6: 0})
    assert counts[0].tolist() == [0, 0, 2, 1]


def test_another_class_is_no_match():
    counts = counts_of([[1, 1]], {1: 0}, [[5, 5]], {5: 1})
    assert counts.tolist() == [[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(('excused', 'false_positives'), [(2, 1), (3, 0)])
def test_more_than_half_in_void_is_excused(excused, false_positives):
    truth = [[0] * excused + [1] * (4 - excused) + [1] * 20]
    prediction = [[7] * 4 + [8] * 20]
    counts = counts_of(truth, {1: 0}, prediction, {7: 0, 8: 0})
    assert counts[0, 1] == 1
    assert counts[0, 2] == false_positives


def test_a_crowd_excuses_its_own_class_only_and_is_never_missed():
    truth = [[4] * 4 + [1] * 20]
    for index, false_positives in ((0, 0), (2, 1)):
        counts = counts_of(truth, {1: 0}, [[7] * 4 + [8] * 20], {7: index, 8: 0}, crowds={4: 0})
        assert counts[0].tolist()[1::2] == [1, 0]
        assert counts[:, 2].sum() == false_positives


@pytest.mark.parametrize(('crowds', 'false_positives'), [({4: 0, 5: 0}, 2), ({5: 0, 4: 0}, 1)])
def test_of_several_crowds_of_a_class_the_last_one_excuses(crowds, false_positives):
    """As in panopticapi. Segment 7 lies on three pixels of crowd 4 and two of crowd 5; 8 is half of segment 1."""
    truth = [[4, 4, 4, 5, 5, 1, 1]]
    counts = counts_of(truth, {1: 0}, [[7, 7, 7, 7, 7, 0, 8]], {7: 0, 8: 0}, crowds=crowds)
    assert counts[0, 2] == false_positives


def test_what_the_annotations_do_not_list_excuses_nothing():
    """As in panopticapi: only 0 is void."""
    for pixel, false_positives in ((0, 0), (9, 1)):
        counts = counts_of([[pixel, pixel, pixel, 1, 1]], {1: 0}, [[7, 7, 7, 8, 8]], {7: 0, 8: 0})
        assert counts[0].tolist() == [1, 1, false_positives, 0]


def test_truth_against_itself():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 6, (20, 30))
    classes = {1: 0, 2: 0, 3: 1, 4: 2, 5: 2}
    counts = counts_of(ids, classes, ids, classes)
    np.testing.assert_allclose(counts, [[2, 2, 0, 0], [1, 1, 0, 0], [2, 2, 0, 0]])
    np.testing.assert_allclose(panoptic_quality(counts), np.ones((3, 3)))


def slow_counts(truth, truth_classes, crowds, prediction, prediction_classes, num_classes):
    """The definition, with a mask for each segment."""
    counts = np.zeros((num_classes, 4))
    void, last = truth == 0, {index: crowd for crowd, index in crowds.items()}
    found = set()
    for one, index in truth_classes.items():
        hit = False
        for other, own in prediction_classes.items():
            mine, theirs = truth == one, (prediction == other) & ~void
            iou = (mine & theirs).sum() / (mine | theirs).sum()
            if own == index and iou > 0.5:
                counts[index, :2] += iou, 1
                hit = True
                found.add(other)
        counts[index, 3] += not hit
    for other, own in prediction_classes.items():
        mask = prediction == other
        excused = mask & (void | (truth == last.get(own)))
        if other not in found and mask.any() and excused.sum() <= mask.sum() / 2:
            counts[own, 2] += 1
    return counts


@pytest.mark.parametrize('seed', range(8))
def test_against_the_definition(seed):
    rng = np.random.default_rng(seed)
    shape = 24, 32

    def scene(count):
        ids = np.zeros(shape, dtype=np.int64)
        for i in range(1, count + 1):
            top, left = rng.integers(0, 16), rng.integers(0, 20)
            ids[rectangle(shape, top, top + rng.integers(2, 14), left, left + rng.integers(2, 16))] = i
        return ids

    truth = scene(9)
    prediction = np.where(rng.random(shape) < 0.9, truth, scene(9)) + 1_000_000 * (truth > 0)
    classes = {int(i): int(rng.integers(3)) for i in np.unique(truth) if i}
    crowds = {i: classes.pop(i) for i in list(classes)[:2]}
    predicted = {int(i): (classes | crowds).get(int(i) % 1_000_000, 1) for i in np.unique(prediction) if i}
    expected = slow_counts(truth, classes, crowds, prediction, predicted, 3)
    np.testing.assert_allclose(count_segments(truth, classes, crowds, prediction, predicted, 3), expected)
