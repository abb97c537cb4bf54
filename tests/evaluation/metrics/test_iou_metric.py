"""IoUMetric beside mmseg's own, and where mmseg's stops counting."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from PIL import Image

from mmplugins.hosts import problem_with

if problem := problem_with('mmseg'):
    pytest.skip(f'the metric is of mmseg: {problem}', allow_module_level=True)

from mmengine.registry import METRICS, init_default_scope
from mmseg.evaluation.metrics import IoUMetric as MMSegIoUMetric
from mmseg.structures import SegDataSample

from mmplugins.evaluation.metrics import IoUMetric

CLASSES = ('sky', 'road', 'car', 'never')


def sample(prediction, label=None, **meta):
    one = SegDataSample(pred_sem_seg=PixelData(data=torch.as_tensor(prediction)[None]), metainfo=meta)
    if label is not None:
        one.gt_sem_seg = PixelData(data=torch.as_tensor(label)[None])
    return one.to_dict()


def evaluate(metric, samples, classes=CLASSES):
    metric.dataset_meta = dict(classes=classes)
    for one in samples:
        metric.process({}, [one])
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('settings', [{}, dict(ignore_index=1), dict(nan_to_num=0)])
def test_equals_mmsegs(settings):
    generator = np.random.default_rng(0)
    samples = []
    for _ in range(3):
        label = generator.choice([0, 1, 2, 255], (30, 40))
        samples.append(sample(np.where(generator.random(label.shape) < 0.5, label % 3, 1), label))
    arguments = dict(iou_metrics=['mIoU', 'mDice', 'mFscore'], **settings)
    ours, others = (evaluate(cls(**arguments), samples) for cls in (IoUMetric, MMSegIoUMetric))
    assert list(ours) == list(others)
    assert {'aAcc', 'mIoU', 'mAcc', 'mDice', 'mFscore', 'mPrecision', 'mRecall'} == {*ours}
    for name, value in others.items():
        assert ours[name] == pytest.approx(value, abs=0.011), name  # both are rounded to two digits
    assert 10 < ours['mIoU'] < 90


@pytest.mark.parametrize('images', [1, 2], ids=['one image', 'two images'])
def test_more_than_16_million_pixels_of_a_class(images):
    """A class of 2^24 + 2^22 pixels, a fifth of them missed: IoU 80 %, and a class of 2^22 that is found too often."""
    size = 2**22
    label = torch.zeros(6, size, dtype=torch.uint8)
    label[5] = 1
    prediction = label.clone()
    prediction[4] = 1
    pieces = zip(prediction.chunk(images), label.chunk(images), strict=True)
    values = evaluate(IoUMetric(), [sample(*piece) for piece in pieces], ('rest', 'found'))
    assert values['mIoU'] == pytest.approx((80 + 50) / 2)
    assert values['aAcc'] == pytest.approx(100 * 5 / 6, abs=0.005)


def test_a_config_builds_it():
    init_default_scope('mmseg')
    assert type(METRICS.build(dict(type='mmplugins.IoUMetric', iou_metrics=['mIoU']))) is IoUMetric
    assert type(METRICS.build(dict(type='IoUMetric'))) is MMSegIoUMetric


def test_a_truth_of_another_size_is_named():
    text = r'^a/b\.png: the prediction is \(4, 5\), the truth \(8, 10\) .*; put LoadAnnotations behind Resize'
    with pytest.raises(ValueError, match=text):
        evaluate(IoUMetric(), [sample(np.zeros((4, 5), np.int64), np.zeros((8, 10), np.int64), img_path='a/b.png')])


def test_an_image_without_truth_is_named(tmp_path):
    """But where predictions are only written."""
    one = sample(np.full((4, 5), 2), img_path='a/b.png')
    with pytest.raises(ValueError, match=r'^a/b\.png has no gt_sem_seg to measure: give the test pipeline'):
        evaluate(IoUMetric(), [one])
    evaluate(IoUMetric(format_only=True, output_dir=str(tmp_path)), [one])
    assert np.array(Image.open(tmp_path / 'b.png')).tolist() == [[2] * 5] * 4
