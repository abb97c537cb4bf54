import sys

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmplugins.evaluation.functional import object_scores
from mmplugins.evaluation.metrics import VOSMetric, vos_metric
from mmplugins.registry import METRICS
from tests.models.losses.test_set_criterion_distributed import run_two

NAMES = ['J&F', 'J-Mean', 'J-Recall', 'J-Decay', 'F-Mean', 'F-Recall', 'F-Decay']


def mask(*objects, shape=(30, 40)):
    """Squares of 8 pixels at (number, top, left)."""
    result = np.zeros(shape, np.uint8)
    for number, top, left in objects:
        result[top : top + 8, left : left + 8] = number
    return result


def data_sample(video, frame, frames, prediction, truth=None, given=None, **metainfo):
    """A data sample as AOT returns it; masks are (H, W)."""
    meta = dict(video_name=video, frame_id=frame, frame_name=f'{frame:05d}', num_frames=frames)
    sample = SegDataSample(metainfo=meta | dict(ori_shape=prediction.shape) | metainfo)
    sample.pred_sem_seg = PixelData(data=torch.from_numpy(prediction)[None])
    for name, value in (('gt_sem_seg', truth), ('ref_sem_seg', given)):
        if value is not None:
            sample.set_data({name: PixelData(data=torch.from_numpy(value)[None])})
    return sample


def item(*args, **metainfo):
    """A data sample as Evaluator hands it to a metric."""
    return data_sample(*args, **metainfo).to_dict()


def video(name='a', frames=6, step=2, objects=2):
    """Objects that stand still, and predictions that move to the right by ``step`` pixels a frame."""
    places = [(1, 3, 4), (2, 18, 4)][:objects]
    truth = mask(*places)
    predictions = [mask(*((number, top, left + step * t) for number, top, left in places)) for t in range(frames)]
    return [item(name, t, frames, p, truth, truth if t == 0 else None) for t, p in enumerate(predictions)]


def run(samples, **settings):
    metric = METRICS.build(dict(type='mmplugins.VOSMetric', **settings))
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(len(samples))


def test_smoke():
    metrics = run(video())
    assert list(metrics) == NAMES
    assert all(type(value) is float for value in metrics.values())


def test_perfect_predictions():
    expected = dict.fromkeys(NAMES, 100.0) | {'J-Decay': 0.0, 'F-Decay': 0.0}
    assert run(video(step=0)) == expected


def test_values_by_hand():
    """A square of 8 moved by 2 t: J = (8 - 2 t) / (8 + 2 t); frames 0 and 5 do not count.

    t = 1 to 4: 0.6, 1/3, 1/7, 0; one of four above 0.5. The quarters end at frames 0, 1, 2, 2, 3 of the four: the first
    is the mean of 0.6 and 1/3, the last that of 1/7 and 0.
    """
    metrics = run(video())
    values = [3 / 5, 1 / 3, 1 / 7, 0]
    assert metrics['J-Mean'] == pytest.approx(100 * sum(values) / 4)
    assert metrics['J-Recall'] == pytest.approx(25)
    assert metrics['J-Decay'] == pytest.approx(100 * (sum(values[:2]) / 2 - sum(values[2:]) / 2))
    truth, moved = mask((1, 3, 4)), [mask((1, 3, 4 + 2 * t)) for t in range(1, 5)]
    boundary = np.mean([object_scores(x, truth, [1])[1][1] for x in moved])
    assert metrics['F-Mean'] == pytest.approx(100 * boundary)
    assert metrics['J&F'] == pytest.approx((metrics['J-Mean'] + metrics['F-Mean']) / 2)


def test_each_object_weighs_the_same():
    """One object that is right and two that are off, in videos of different lengths."""
    alone = run(video('b', 9, 1))['J-Mean']
    together = run([*video('a', 4, 0, objects=1), *video('b', 9, 1)])['J-Mean']
    assert together == pytest.approx((100 + 2 * alone) / 3)


def test_an_object_that_appears_later():
    """Given in frame 2, it is measured in frames 3 and 4; a truth that has it before does not count."""
    truth = mask((1, 3, 4), (2, 18, 4))
    first, off = mask((1, 3, 4)), mask((1, 3, 4), (2, 18, 8))
    samples = [item('a', 0, 6, first, truth, first), item('a', 1, 6, first, truth)]
    samples.append(item('a', 2, 6, truth, truth, mask((2, 18, 4))))
    samples += [item('a', t, 6, off, truth) for t in (3, 4, 5)]
    metrics = run(samples)
    assert metrics['J-Mean'] == pytest.approx((100 + 100 / 3) / 2)


def test_without_reference_the_first_truth_is_given():
    truth = mask((1, 3, 4))
    later = mask((1, 3, 4), (2, 18, 4))  # an object that was never given
    samples = [item('a', t, 4, truth, later if t else truth) for t in range(4)]
    assert run(samples)['J&F'] == 100


def test_objects_that_were_never_given_are_named(monkeypatch):
    """DAVIS does not measure them; the log says which, and the frame that shows them first."""
    lines = []
    monkeypatch.setattr(vos_metric, 'print_log', lambda text, **settings: lines.append(text))
    truth = mask((1, 3, 4))
    later = np.maximum(mask((1, 3, 4), (2, 18, 4)), np.where(mask((1, 20, 30)), 255, 0).astype(np.uint8))
    run([item('a', t, 4, truth, later if t > 1 else truth) for t in range(4)] + video('b'))
    named = [line for line in lines if 'no mask gave them' in line]
    assert len(named) == 1
    assert 'video a: object 2, first seen at frame 00002\n' in named[0]
    assert named[0].startswith('1 object(s) are annotated')
    lines.clear()
    run(video('b'))
    assert not any('no mask gave them' in line for line in lines)


def test_sparse_annotation():
    """Frames 0, 2, 4 of 6 are annotated: frame 2 alone counts."""
    truth = mask((1, 3, 4))
    samples = [
        item('a', t, 6, mask((1, 3, 4 + t)), truth if t in (0, 2, 4) else None, truth if t == 0 else None)
        for t in range(6)
    ]
    assert run(samples)['J-Mean'] == pytest.approx(100 * 6 / 10)


def test_void_pixels():
    truth = mask((1, 3, 4))
    given = truth.copy()
    given[20:, :] = 255
    prediction = truth.copy()
    prediction[22:, :] = 1
    samples = [item('a', t, 3, prediction if t else truth, given) for t in range(3)]
    assert run(samples)['J&F'] == 100


def test_two_evaluations_of_one_metric():
    metric = VOSMetric()
    found = []
    for _ in range(2):
        for sample in video():
            metric.process({}, [sample])
        found.append(metric.evaluate(6))
    assert found[0] == found[1]


def test_through_mmengine():
    """An evaluator hands over data samples, and the prefix is put before the names."""
    evaluator = Evaluator(dict(type='mmplugins.VOSMetric', prefix='davis'))
    truth, off = mask((1, 3, 4)), mask((1, 3, 8))
    for t in range(4):
        evaluator.process([data_sample('a', t, 4, off if t else truth, truth)], {})
    metrics = evaluator.evaluate(4)
    assert list(metrics) == [f'davis/{name}' for name in NAMES]
    assert metrics['davis/J-Mean'] == pytest.approx(100 / 3)


def test_predictions_and_tables_are_written(tmp_path):
    metrics = run([*video('a'), *video('b', 3)], output_dir=str(tmp_path))
    assert sorted(path.name for path in (tmp_path / 'a').iterdir()) == [f'{t:05d}.png' for t in range(6)]
    image = Image.open(tmp_path / 'b' / '00001.png')
    assert image.mode == 'P'
    assert np.array_equal(np.array(image), mask((1, 3, 6), (2, 18, 6)))
    header, values = (tmp_path / 'global_results.csv').read_text().splitlines()
    assert header.split(',') == ['J&F-Mean', *NAMES[1:]]
    assert [float(x) for x in values.split(',')] == pytest.approx([x / 100 for x in metrics.values()], abs=6e-4)
    rows = (tmp_path / 'per-sequence_results.csv').read_text().splitlines()
    assert [row.split(',')[0] for row in rows] == ['Sequence', 'a_1', 'a_2', 'b_1', 'b_2']


def test_format_only(tmp_path, monkeypatch):
    """Neither annotation nor vos-benchmark is needed, and no table is written."""
    monkeypatch.setitem(sys.modules, 'vos_benchmark.evaluator', None)
    samples = [item('a', t, 3, mask((1, 3, 4))) for t in range(3)]
    assert run(samples, output_dir=str(tmp_path), format_only=True) == {}
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob('*.*'))
    assert files == ['a/00000.png', 'a/00001.png', 'a/00002.png']
    with pytest.raises(ValueError, match='say where with output_dir'):
        VOSMetric(format_only=True)
    with pytest.raises(ImportError, match='pip install vos-benchmark'):
        VOSMetric()


def test_table_in_the_log(monkeypatch):
    lines = []
    monkeypatch.setattr(vos_metric, 'print_log', lambda text, logger: lines.extend(text.splitlines()))
    run([*video('dog', 4, 0, objects=1), *video('camel', 4, 1)])  # the table does not depend on the order
    rows = [line.split() for line in lines]
    assert [row[:-7] for row in rows[2:]] == [
        ['camel', '1', '2'],
        ['camel', '2', '2'],
        ['camel', 'mean'],
        ['dog', '1', '2'],
        ['all', '3'],
    ]
    assert rows[-2][3:] == ['100.00'] * 3 + ['0.00'] + ['100.00'] * 2 + ['0.00']


@pytest.mark.parametrize(
    ('order', 'message'),
    [
        ([0, 2, 1, 3], 'frame 2 must follow frame 1, but the frame before was 0; feed the frames'),
        ([0, 1, 1, 2, 3], 'frame 1 must follow frame 0, but the frame before was 1'),
        ([1, 2, 3], 'frame 1 must follow frame 0, but the frame before was none'),
        ([0, 1, 2], r'has 4 frames; missing: \[3\], more than once: \[\]; each must come once: use a sampler'),
        ([0, 1, 2, 3, 0], r'missing: \[\], more than once: \[0\]'),
    ],
)
def test_frames_that_are_missing_or_out_of_order(order, message):
    samples = video(frames=4)
    with pytest.raises(ValueError, match=message):
        run([samples[index] for index in order])


def test_a_video_in_parts():
    samples = video('a', 4)
    with pytest.raises(ValueError, match="video 'a': frame 2 must follow frame 1, but the frame before was none"):
        run([*samples[:2], *video('b', 3), *samples[2:]])


def test_masks_that_do_not_fit():
    truth, small = mask((1, 3, 4)), mask((1, 3, 4), shape=(20, 30))
    with pytest.raises(ValueError, match=r"'a', frame 0: the prediction must be of the original size \(30, 40\), got"):
        run([item('a', 0, 2, small, truth, ori_shape=(30, 40))])
    with pytest.raises(
        ValueError, match=r'frame 0: gt_sem_seg \(20, 30\) must be of the size of the frame, \(30, 40\)'
    ):
        run([item('a', 0, 2, truth, small, truth)])
    with pytest.raises(ValueError, match='frame 0: the first frame needs ref_sem_seg or gt_sem_seg, to say what to'):
        run([item('a', 0, 2, truth)])
    with pytest.raises(ValueError, match=r'prediction has an object 2, but the masks given up to now have \[1\]'):
        run([item('a', 0, 2, mask((2, 3, 4)), truth)])
    with pytest.raises(ValueError, match=r'prediction has an object 1, but the masks given up to now have \[3\]'):
        run([item('a', 0, 2, mask((1, 3, 4)), mask((3, 3, 4)))])
    clip = item('a', 0, 2, truth, truth)
    clip['pred_sem_seg']['data'] = clip['pred_sem_seg']['data'].repeat(2, 1, 1)
    with pytest.raises(ValueError, match=r'takes single frames, whose pred_sem_seg is \(1, H, W\), got \(2, 30, 40\)'):
        run([clip])


def test_incomplete_data_samples():
    sample = item('a', 0, 2, mask((1, 3, 4)))
    del sample['frame_name']
    with pytest.raises(ValueError, match=r'needs video_name, .* in the metainfo, frame_name is missing'):
        run([sample])
    sample = item('a', 0, 2, mask((1, 3, 4)))
    del sample['pred_sem_seg']
    with pytest.raises(ValueError, match="video 'a': the data sample has no pred_sem_seg"):
        run([sample])


def test_nothing_to_measure():
    truth = mask((1, 3, 4))
    with pytest.raises(ValueError, match=r'no object of 1 videos is annotated .* set format_only=True and output_dir'):
        run([item('a', t, 3, truth, truth if t == 0 else None) for t in range(3)])
    with pytest.raises(ValueError, match='no frame was measured: the test set is empty; check data_root'):
        run([])


TWO = """
from tests.evaluation.metrics.test_vos_metric import run, video
samples = [*video('a', 4, 1), *video('b', 3, 0)] if rank == 0 else video('c', 11, 2, objects=1)
found = run(samples, output_dir={folder!r} + '/png')
try:
    run(video('d', 5, 1)[: 5 - rank])  # the frame that is lost is that of the other process
except ValueError as error:
    found['error'] = str(error)
"""


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    """One has 7 frames, the other 11; an error is raised in both, so that none waits for the other."""
    found = run_two(TWO.replace('{folder!r}', repr(str(tmp_path))), tmp_path)
    errors = [result.pop('error') for result in found]
    assert found[0] == found[1] == run([*video('a', 4, 1), *video('b', 3, 0), *video('c', 11, 2, objects=1)])
    assert errors[0] == errors[1]
    assert 'more than once: [0, 1, 2, 3]' in errors[0]
    assert len(list((tmp_path / 'png').rglob('*.png'))) == 18
    assert (tmp_path / 'png' / 'per-sequence_results.csv').is_file()
