"""Metrics, drawn at random, beside formulas written plainly."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from mmplugins.evaluation.metrics import CocoPanopticMetric, IoUMetric, SaliencyMetric, VOSMetric
from mmplugins.hosts import problem_with
from tests.fuzz.cases import SEEDS, fuzz
from tests.fuzz.files import folder, save

SIZE = st.tuples(st.integers(1, 12), st.integers(1, 12))


def colours(ids):
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)


def rectangles(generator, size, number, values):
    ids = np.zeros(size, np.int64)
    for value in values[:number]:
        top, left = (int(generator.integers(0, side)) for side in size)
        ids[top : top + int(generator.integers(1, 9)), left : left + int(generator.integers(1, 9))] = value
    return ids


def panoptic_quality(images, classes):
    """PQ, SQ and RQ of each class, NaN without segments; images are truth, its classes, crowds, prediction, classes."""
    table = np.zeros((classes, 4))  # IoU, TP, FP, FN
    for truth, truth_classes, crowds, prediction, predicted_classes in images:
        matched_truth, matched = set(), set()
        labelled = np.isin(truth, list(truth_classes) + list(crowds))
        for one, label in truth_classes.items():
            for other, predicted in predicted_classes.items():
                if label != predicted:
                    continue
                inter = ((truth == one) & (prediction == other)).sum()
                void = ((prediction == other) & (truth == 0)).sum()
                union = (truth == one).sum() + (prediction == other).sum() - inter - void
                if inter > 0.5 * union:
                    table[label, 0] += inter / union
                    table[label, 1] += 1
                    matched_truth.add(one)
                    matched.add(other)
        for one, label in truth_classes.items():
            table[label, 3] += one not in matched_truth
        for other, label in predicted_classes.items():
            if other in matched:
                continue
            area = (prediction == other).sum()
            of_class = [one for one, crowd_label in crowds.items() if crowd_label == label]
            excused = ((prediction == other) & (truth == 0)).sum()
            if of_class:  # panopticapi's: the last crowd of the class
                excused += ((prediction == other) & (truth == of_class[-1])).sum()
            table[label, 2] += excused <= 0.5 * area
        assert labelled.shape == truth.shape
    iou, tp, fp, fn = table.T
    with np.errstate(all='ignore'):
        number = tp + fp / 2 + fn / 2
        pq, sq, rq = iou / number, np.where(tp > 0, iou / np.maximum(tp, 1), 0), tp / number
    return np.stack([pq, np.where(number > 0, sq, np.nan), rq], 1)


@fuzz(
    'CocoPanopticMetric',
    seed=SEEDS,
    size=SIZE,
    images=st.integers(1, 2),
    things=st.integers(1, 2),
    stuff=st.integers(0, 2),
    close=st.booleans(),
)
def test_panoptic(seed, size, images, things, stuff, close):
    generator = np.random.default_rng(seed)
    classes = things + stuff
    categories = [dict(id=10 * i + 3, name=f'c{i}', isthing=int(i < things)) for i in range(classes)]
    annotations, cases, samples = [], [], []
    with folder() as path:
        for image in range(images):
            values = np.unique(generator.integers(1, 2**24, 5))
            truth = rectangles(generator, size, int(generator.integers(0, 5)), values)
            present = [int(value) for value in np.unique(truth) if value]
            infos, truth_classes, crowds = [], {}, {}
            for value in present:
                label = int(generator.integers(0, classes))
                crowd = label < things and generator.random() < 0.3
                infos.append(dict(id=value, category_id=10 * label + 3, iscrowd=int(crowd)))
                (crowds if crowd else truth_classes)[value] = label
            save(colours(truth), path / f'{image}.png')
            annotations.append(dict(image_id=image, file_name=f'{image}.png', segments_info=infos))
            prediction = np.full(size, classes)
            if close and present:
                for number, value in enumerate(present):
                    label = {**truth_classes, **crowds}[value]
                    prediction[truth == value] = label + 1000 * (number + 1)
                noise = generator.random(size) < 0.3
                prediction[noise] = int(generator.integers(0, classes))
            else:
                for number in range(int(generator.integers(0, 4))):
                    top, left = (int(generator.integers(0, side)) for side in size)
                    label = int(generator.integers(0, classes)) + 1000 * number
                    prediction[top : top + 5, left : left + 7] = label
            found = [int(value) for value in np.unique(prediction) if value % 1000 < classes]
            cases.append((truth, truth_classes, crowds, prediction, {value: value % 1000 for value in found}))
            sem_seg = torch.from_numpy(prediction)[None]
            samples.append(dict(img_id=image, img_path=f'{image}.jpg', pred_panoptic_seg=dict(sem_seg=sem_seg)))
        (path / 'a.json').write_text(json.dumps(dict(categories=categories, annotations=annotations)))
        metric = CocoPanopticMetric(str(path / 'a.json'), str(path))
        metric.dataset_meta = dict(classes=[one['name'] for one in categories])
        for sample in samples:
            metric.process(None, [sample])
    values = metric.compute_metrics(metric.results)
    quality = 100 * panoptic_quality(cases, classes)
    for suffix, rows in (('', quality), ('_th', quality[:things]), ('_st', quality[things:])):
        rows = rows[~np.isnan(rows[:, 0])]
        for index, name in enumerate(('PQ', 'SQ', 'RQ')):
            expected = rows[:, index].mean() if len(rows) else math.nan
            assert values[name + suffix] == pytest.approx(expected, abs=1e-9, nan_ok=True), (name + suffix, cases)


@pytest.mark.skipif(problem_with('mmseg') is not None, reason='the metric is of mmseg')
@fuzz(
    'IoUMetric',
    seed=SEEDS,
    size=st.tuples(st.integers(2, 12), st.integers(2, 12)),
    images=st.integers(1, 3),
    classes=st.integers(1, 5),
    ignore_index=st.sampled_from([255, 0, 3]),
    dtype=st.sampled_from([np.uint8, np.int16, np.int64]),
    strange=st.booleans(),
)
def test_iou(seed, size, images, classes, ignore_index, dtype, strange):
    """IoU, accuracy and Dice of each class by their definitions, of all images together; NaN where a class is not."""
    generator = np.random.default_rng(seed)
    metric, seen = IoUMetric(iou_metrics=['mIoU', 'mDice']), []
    metric.ignore_index = ignore_index
    metric.dataset_meta = dict(classes=[str(index) for index in range(classes)])
    for _ in range(images):
        label = generator.choice([*range(classes + 2 * strange), 255], size).astype(dtype)
        prediction = np.where(generator.random(size) < 0.6, label % classes, generator.integers(0, classes, size))
        maps = [torch.from_numpy(one)[None] for one in (prediction, label)]
        metric.process(None, [dict(pred_sem_seg=dict(data=maps[0]), gt_sem_seg=dict(data=maps[1]))])
        seen.append([one[label != ignore_index].astype(np.int64) for one in (prediction, label)])
    prediction, label = (np.concatenate(maps) for maps in zip(*seen, strict=True))
    both, predicted, labelled = (
        np.array([np.count_nonzero(chosen) for chosen in masks], float)
        for masks in (
            [(prediction == index) & (label == index) for index in range(classes)],
            [prediction == index for index in range(classes)],
            [label == index for index in range(classes)],
        )
    )
    with np.errstate(all='ignore'):
        expected = dict(
            aAcc=both.sum() / labelled.sum(),
            mIoU=both / (predicted + labelled - both),
            mAcc=both / labelled,
            mDice=2 * both / (predicted + labelled),
        )
    values = metric.compute_metrics(metric.results)
    for name, of_classes in expected.items():
        of_classes = of_classes[~np.isnan(of_classes)]
        mean = 100 * of_classes.mean() if of_classes.size else math.nan
        assert values[name] == pytest.approx(mean, abs=0.0051, nan_ok=True), name  # rounded to two digits


@fuzz(
    'SaliencyMetric',
    seed=SEEDS,
    size=st.tuples(st.integers(2, 12), st.integers(2, 12)),
    images=st.integers(1, 3),
    kind=st.sampled_from(['random', 'mask', 'constant', 'opposite']),
    foreground=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    channels=st.sampled_from([1, 2]),
)
def test_saliency(seed, size, images, kind, foreground, channels):
    """MAE and F by their definitions; the other measures lie in their bounds and are 1 of a perfect map."""
    generator = np.random.default_rng(seed)
    metric, maes, curves = SaliencyMetric(), [], []
    for index in range(images):
        mask = generator.random(size) < foreground
        value = {'random': generator.random(size), 'mask': mask, 'constant': np.full(size, 0.3), 'opposite': ~mask}[
            kind
        ]
        probability = torch.from_numpy(np.asarray(value, np.float32))
        logits = probability[None]
        if channels == 2:
            probability = probability.clamp(1e-4, 1 - 1e-4)
            logits = torch.stack([torch.zeros_like(probability), (probability / (1 - probability)).log()])
            probability = logits.softmax(0)[1]
        metric.process(
            None,
            [
                dict(
                    seg_logits=dict(data=logits),
                    gt_sem_seg=dict(data=torch.from_numpy(mask.astype(np.int64))[None]),
                    ori_shape=size,
                    img_path=f'{index}.jpg',
                )
            ],
        )
        levels = np.trunc(probability.numpy() * 255).astype(int) / 255
        if levels.max() > levels.min():
            levels = (levels - levels.min()) / (levels.max() - levels.min())
        maes.append(np.abs(levels - mask).mean())
        curve = []
        for threshold in range(256):
            chosen = np.trunc(levels * 255 + 1e-9) >= threshold
            both = (chosen & mask).sum()
            precision = both / chosen.sum() if chosen.any() else 0
            recall = both / mask.sum() if mask.any() else 0
            total = 0.3 * precision + recall
            curve.append(1.3 * precision * recall / total if total else 0)
        curves.append(curve)
    values = metric.compute_metrics(metric.results)
    assert values['MAE'] == pytest.approx(np.mean(maes), abs=1e-6)
    # a level next to a threshold goes either way
    assert values['maxFm'] == pytest.approx(np.mean(curves, 0).max(), abs=5e-3)
    assert values['meanFm'] == pytest.approx(np.mean(curves, 0).mean(), abs=5e-3)
    for name, value in values.items():
        assert math.isfinite(value), (name, value)
        assert -1e-6 <= value <= (1 + 1e-6 if 'Em' not in name else 2 * 4 / 3), (name, value)


@fuzz(
    'VOSMetric',
    seed=SEEDS,
    size=SIZE,
    frames=st.integers(3, 6),
    objects=st.integers(1, 3),
    quality=st.sampled_from(['perfect', 'empty', 'random']),
    annotated=st.sampled_from(['all', 'some']),
)
def test_vos(seed, size, frames, objects, quality, annotated):
    """J is the IoU, 1 if both are empty; F is 1 of a perfect boundary; the last annotated frame is out."""
    generator = np.random.default_rng(seed)
    metric, seen = VOSMetric(), []
    first = np.zeros(size, np.uint8)
    numbers = [number for number in range(1, objects + 1)]
    flat = first.ravel()
    flat[: len(numbers)] = numbers[: flat.size]
    given = [number for number in numbers if (first == number).any()]
    masks = [first] + [rectangles(generator, size, objects, given).astype(np.uint8) for _ in range(frames - 1)]
    for frame, mask in enumerate(masks):
        prediction = {
            'perfect': mask,
            'empty': np.zeros_like(mask),
            'random': generator.choice([0, *given], size).astype(np.uint8),
        }[quality]
        sample = dict(
            video_name='bear',
            frame_id=frame,
            frame_name=str(frame),
            num_frames=frames,
            ori_shape=size,
            pred_sem_seg=dict(data=torch.from_numpy(prediction.astype(np.int64))[None]),
        )
        if annotated == 'all' or frame % 2 == 0 or frame == frames - 1:
            sample['gt_sem_seg'] = dict(data=torch.from_numpy(mask.astype(np.int64))[None])
            if frame:
                seen.append((prediction, mask))
        metric.process(None, [sample])
    scores = []
    for number in given:
        values = []
        for prediction, mask in seen[:-1]:
            union = ((prediction == number) | (mask == number)).sum()
            values.append(((prediction == number) & (mask == number)).sum() / union if union else 1.0)
        scores.append(values)
    if not seen[:-1]:
        with pytest.raises(ValueError, match='no object of 1 videos is annotated'):
            metric.compute_metrics(metric.results)
        return
    found = metric.compute_metrics(metric.results)
    assert found['J-Mean'] == pytest.approx(100 * np.mean([np.mean(one) for one in scores]), abs=1e-6)
    assert found['J-Recall'] == pytest.approx(100 * np.mean([np.mean(np.array(one) > 0.5) for one in scores]), abs=1e-6)
    assert 0 <= found['F-Mean'] <= 100 + 1e-9
    assert found['J&F'] == pytest.approx((found['J-Mean'] + found['F-Mean']) / 2)
    if quality == 'perfect':
        assert found['F-Mean'] == pytest.approx(100)


def test_another_size_is_named():
    metric = VOSMetric()
    sample = dict(
        video_name='bear',
        frame_id=0,
        frame_name='0',
        num_frames=3,
        ori_shape=(3, 3),
        pred_sem_seg=dict(data=torch.zeros(1, 4, 4)),
    )
    with pytest.raises(
        ValueError, match=r"video 'bear', frame 0: the prediction must be of the original size \(3, 3\)"
    ):
        metric.process(None, [sample])
