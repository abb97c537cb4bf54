"""Suppression of boxes: against a loop over boxes written from the definition, and against mmcv's kernels."""

import math

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, bbox_overlaps, nms, nms_match, soft_nms

from mmplugins.ops import nms as plain_nms
from mmplugins.ops import vision
from tests.ops.plain import needs_compiled, random_boxes, use_plain

pytestmark = pytest.mark.usefixtures('plain', 'no_torchvision')


@pytest.fixture
def no_torchvision(monkeypatch):
    monkeypatch.setattr(plain_nms, 'torchvision_operator', lambda *args: None)


def iou(a, b, offset=0):
    """Of two boxes (lists of four numbers)."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def greedy(boxes, scores, threshold, offset=0):
    boxes, kept = boxes.double().tolist(), []
    for i in np.argsort(-scores.numpy(), kind='stable').tolist():
        if all(iou(boxes[i], boxes[k], offset) <= threshold for k in kept):
            kept.append(i)
    return kept


def scene(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return random_boxes(count, 100, seed), torch.rand(count, generator=generator)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('count', [0, 1, 2, 127, 128, 129, 300])
def test_nms(count, offset):
    boxes, scores = scene(count)
    dets, index = nms(boxes, scores, 0.3, offset=offset)
    assert index.dtype == torch.int64
    assert index.tolist() == greedy(boxes, scores, 0.3, offset)
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], 1)[index])


def test_nms_blocks_larger_than_the_boxes(monkeypatch):
    boxes, scores = scene(100)
    expected = nms(boxes, scores, 0.3)[1]
    for size in (1, 7, 1000):
        monkeypatch.setattr(plain_nms, '_CPU_BLOCK', size)
        assert torch.equal(nms(boxes, scores, 0.3)[1], expected)


def test_an_overlap_equal_to_the_threshold_is_kept():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2]])  # IoU 8 / 16
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.5)[1].tolist() == [0, 1]
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.49)[1].tolist() == [0]


def test_nms_takes_arrays_and_filters():
    boxes, scores = scene(50)
    dets, index = nms(boxes.numpy(), scores.numpy(), 0.3, score_threshold=0.5, max_num=4)
    assert isinstance(dets, np.ndarray)
    assert index.tolist() == [i for i in greedy(boxes, scores, 0.3) if scores[i] > 0.5][:4]


@pytest.mark.parametrize('split_thr', [10000, 40])
def test_batched_nms_keeps_classes_apart(split_thr):
    boxes, scores = scene(90)
    classes = torch.arange(90) % 3
    _, index = batched_nms(boxes, scores, classes, dict(type='nms', iou_threshold=0.3, split_thr=split_thr))
    expected = []
    for label in range(3):
        own = (classes == label).nonzero()[:, 0]
        expected += own[greedy(boxes[own], scores[own], 0.3)].tolist()
    assert index.tolist() == sorted(expected, key=lambda i: -scores[i])


def decayed(boxes, scores, threshold, sigma, least, method):
    """Soft suppression on lists."""
    left, taken = list(enumerate(scores.double().tolist())), []
    boxes = boxes.double().tolist()
    while left:
        best = max(left, key=lambda item: item[1])
        taken.append(best)
        lowered = []
        for i, score in left:
            if i == best[0]:
                continue
            overlap = iou(boxes[best[0]], boxes[i])
            factor = {
                'naive': 0 if overlap >= threshold else 1,
                'linear': 1 - overlap if overlap >= threshold else 1,
                'gaussian': math.exp(-(overlap**2) / sigma),
            }[method]
            if score * factor >= least:
                lowered.append((i, score * factor))
        left = lowered
    return taken


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms(method):
    boxes, scores = scene(80)
    dets, index = soft_nms(boxes, scores, 0.3, sigma=0.5, min_score=0.1, method=method)
    expected = decayed(boxes, scores, 0.3, 0.5, 0.1, method)
    assert index.tolist() == [i for i, _ in expected]
    assert len(index) < 80
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected]), rtol=1e-5, atol=1e-7)
    assert torch.equal(dets[:, :4], boxes[index])


def test_soft_nms_of_nothing():
    dets, index = soft_nms(torch.zeros(0, 4), torch.zeros(0), 0.3)
    assert dets.shape == (0, 5)
    assert index.shape == (0,)


def test_nms_match():
    boxes, scores = scene(60)
    groups = nms_match(torch.cat([boxes, scores[:, None]], 1), 0.3)
    assert sorted(i for group in groups for i in group.tolist()) == list(range(60))
    assert [int(group[0]) for group in groups] == greedy(boxes, scores, 0.3)
    for group in groups:
        assert all(iou(boxes[group[0]].tolist(), boxes[i].tolist()) >= 0.3 for i in group[1:])
        assert scores[group].tolist() == sorted(scores[group].tolist(), reverse=True)


@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_bbox_overlaps(mode):
    a, b = random_boxes(5, 20), random_boxes(7, 20, seed=1)
    area = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    pairs = bbox_overlaps(a, b, mode=mode)
    for i in range(5):
        for j in range(7):
            overlap = iou(a[i].tolist(), b[j].tolist())
            if mode == 'iof':  # IoU = s / (x + y - s), so s = IoU (x + y) / (1 + IoU)
                other = float((b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1]))
                overlap = overlap * (float(area[i]) + other) / (1 + overlap) / float(area[i])
            assert pairs[i, j].item() == pytest.approx(overlap, rel=1e-4, abs=1e-6)
    torch.testing.assert_close(bbox_overlaps(a, b[:5], mode=mode, aligned=True), pairs[:, :5].diagonal())


@needs_compiled
@pytest.mark.parametrize('offset', [0, 1])
def test_same_as_compiled(monkeypatch, offset):
    monkeypatch.undo()
    for seed, count in enumerate((0, 1, 300, 1000)):
        boxes, scores = scene(count, seed)
        scores = (scores * 50).round() / 50  # many are equal
        dets = torch.cat([boxes, scores[:, None]], 1)
        soft = [(method, least) for method in ('naive', 'linear', 'gaussian') for least in (0.001, 0.2)]

        def run(boxes=boxes, scores=scores, dets=dets, soft=soft):
            found = [*nms(boxes, scores, 0.4, offset=offset), *nms_match(dets, 0.4)]
            for method, least in soft:
                found += soft_nms(boxes, scores, 0.3, 0.5, least, method, offset)
            return [
                *found,
                bbox_overlaps(boxes, boxes, offset=offset),
                bbox_overlaps(boxes, boxes, 'iof', True, offset),
            ]

        theirs = run()
        with pytest.MonkeyPatch.context() as patch:
            use_plain(patch)
            patch.setattr(plain_nms, 'torchvision_operator', lambda *args: None)
            ours = run()
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)


@pytest.mark.skipif(vision.torchvision_operator('nms', torch.device('cpu')) is None, reason='no torchvision here')
def test_same_as_torchvision(monkeypatch):
    boxes, scores = scene(300)
    ours = nms(boxes, scores, 0.4)[1]
    monkeypatch.setattr(plain_nms, 'torchvision_operator', vision.torchvision_operator)
    assert torch.equal(nms(boxes, scores, 0.4)[1], ours)
