import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from mmplugins.functional.segment_images import segment_image
from mmplugins.registry import METRICS

CATEGORIES = [
    dict(id=3, name='dog', isthing=1),
    dict(id=7, name='unused', isthing=1),
    dict(id=90, name='grass', isthing=0),
]
META = dict(classes=('grass', 'dog'))  # labels follow the order of the annotations: dog 0, grass 1


def annotations(folder, ids, segments):
    """Writes the annotations of one image; ids (H, W)."""
    (folder / 'png').mkdir()
    Image.fromarray(segment_image(np.array(ids))).save(folder / 'png' / 'a.png')
    content = dict(
        images=[dict(id=5, file_name='a.jpg')],
        categories=CATEGORIES,
        annotations=[dict(image_id=5, file_name='a.png', segments_info=segments)],
    )
    (folder / 'a.json').write_text(json.dumps(content))


def metric_of(folder, **settings):
    metric = METRICS.build(
        dict(
            dict(type='mmplugins.CocoPanopticMetric', ann_file=str(folder / 'a.json'), seg_prefix=str(folder / 'png')),
            **settings,
        )
    )
    metric.dataset_meta = META
    return metric


def sample_of(segments, **more):
    seg = dict(sem_seg=torch.tensor(segments)[None])
    return dict(img_id=5, img_path='images/a.jpg', pred_panoptic_seg=seg) | more


@pytest.fixture
def folder(tmp_path):
    """Two dogs and grass, a void pixel; the second dog is a crowd."""
    segments = [
        dict(id=1, category_id=3, iscrowd=0),
        dict(id=70000, category_id=90, iscrowd=0),
        dict(id=300, category_id=3, iscrowd=1),
    ]
    annotations(tmp_path, [[1, 1, 1, 0], [70000, 70000, 300, 300]], segments)
    return tmp_path


def test_truth_against_itself(folder):
    metric = metric_of(folder)
    metric.process(None, [sample_of([[1000, 1000, 1000, 2], [1, 1, 2000, 2000]])])
    values = metric.evaluate(1)
    assert values == {f'coco_panoptic/{key}{part}': 100.0 for key in ('PQ', 'SQ', 'RQ') for part in ('', '_th', '_st')}


def test_values(folder):
    """A dog over two of three pixels (IoU 2/3), a dog over two pixels of grass (a false positive), grass missed."""
    metric = metric_of(folder, classwise=True, prefix='p')
    metric.process(None, [sample_of([[1000, 1000, 2, 2], [2000, 2000, 2, 2]])])
    values = metric.evaluate(1)
    assert values['p/PQ_th'] == pytest.approx(100 * (2 / 3) / 1.5)
    assert values['p/SQ_th'] == pytest.approx(200 / 3)
    assert values['p/RQ_th'] == pytest.approx(100 / 1.5)
    assert values['p/PQ_st'] == 0
    assert values['p/PQ'] == pytest.approx(values['p/PQ_th'] / 2)


def test_two_images_are_summed_not_averaged(folder):
    metric = metric_of(folder)
    right = sample_of([[1000, 1000, 1000, 2], [1, 1, 2, 2]])
    nothing = sample_of([[2, 2, 2, 2], [2, 2, 2, 2]])
    metric.process(None, [right, nothing])
    assert metric.evaluate(2)['coco_panoptic/PQ'] == pytest.approx(100 / 1.5)


def test_no_segment_of_a_sort_is_not_a_number(tmp_path):
    annotations(tmp_path, [[1, 0]], [dict(id=1, category_id=3, iscrowd=0)])
    metric = metric_of(tmp_path)
    metric.process(None, [sample_of([[1000, 2]])])
    values = metric.evaluate(1)
    assert values['coco_panoptic/PQ'] == 100
    assert math.isnan(values['coco_panoptic/PQ_st'])


def test_written_predictions(folder):
    """Two dogs, numbered 2 and 3, grass, numbered 1, and void; read back as annotations they equal the prediction."""
    sample = sample_of([[1000, 1000, 2000, 2], [1, 1, 2000, 2000]])
    (folder / 'categories.json').write_text(json.dumps(dict(categories=CATEGORIES)))
    settings = dict(ann_file=str(folder / 'categories.json'), seg_prefix=None)
    metric = metric_of(folder, **settings, format_only=True, outfile_prefix=str(folder / 'new/out'))
    metric.process(None, [sample])
    assert metric.evaluate(1) == {}
    written = json.loads((folder / 'new/out.panoptic.json').read_text())
    [annotation] = written['annotations']
    assert annotation['image_id'] == 5
    assert annotation['segments_info'] == [
        dict(id=1, category_id=90),
        dict(id=2, category_id=3),
        dict(id=3, category_id=3),
    ]
    assert np.asarray(Image.open(folder / 'new/out.panoptic/a.png'))[0, :, 0].tolist() == [2, 2, 3, 0]
    (folder / 'a.json').write_text(json.dumps(dict(written, categories=CATEGORIES)))
    metric = metric_of(folder, seg_prefix=str(folder / 'new/out.panoptic'))
    metric.process(None, [sample])
    assert metric.evaluate(1)['coco_panoptic/PQ'] == 100


def test_errors(folder):
    with pytest.raises(ValueError, match='format_only=True needs outfile_prefix, where to write'):
        metric_of(folder, format_only=True)
    with pytest.raises(ValueError, match='format_only=False needs seg_prefix'):
        metric_of(folder, seg_prefix=None)
    metric = metric_of(folder)
    with pytest.raises(ValueError, match=r'the prediction for images/a.jpg is \(1, 2\) and the annotation \(2, 4\)'):
        metric.process(None, [sample_of([[0, 0]])])
    with pytest.raises(ValueError, match=r'image 6 \(images/a.jpg\) is not in ann_file'):
        metric.process(None, [sample_of([[0]], img_id=6)])
    with pytest.raises(ValueError, match=r'no pred_panoptic_seg for images/a\.jpg; set panoptic_on=True'):
        metric.process(None, [dict(img_id=5, img_path='images/a.jpg')])
    with pytest.raises(ValueError, match='no image was measured: the test set is empty'):
        metric.compute_metrics([])


def test_as_mmdets(folder, monkeypatch):
    """The numbers of mmdet's metric, where panopticapi is installed."""
    pytest.importorskip('panopticapi')
    pytest.importorskip('mmdet')
    from mmdet.evaluation import CocoPanopticMetric

    rng = np.random.default_rng(0)
    predictions = [rng.choice([1000, 2000, 1, 2], (2, 4)).tolist() for _ in range(20)]
    theirs = CocoPanopticMetric(ann_file=str(folder / 'a.json'), seg_prefix=str(folder / 'png'))
    theirs.dataset_meta = META
    ours = metric_of(folder)
    for prediction in predictions:
        for metric in (ours, theirs):
            metric.process(None, [sample_of(prediction, ori_shape=(2, 4))])
    expected = theirs.evaluate(20)
    assert ours.evaluate(20) == pytest.approx(expected)


def test_annotations_that_disagree_in_part_are_told(folder, monkeypatch):
    path = folder / 'a.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['segments_info'][1]['id'] = 8  # the PNG has 70000
    path.write_text(json.dumps(content))
    metric = metric_of(folder)
    metric.process(None, [sample_of([[1000, 1000, 1000, 2], [1, 1, 2, 2]])])
    told = []
    monkeypatch.setattr(
        'mmplugins.evaluation.metrics.coco_panoptic_metric.print_log', lambda text, **rest: told.append(text)
    )
    metric.compute_metrics(metric.results)
    assert told[0].startswith('1 annotated images (of this process) have PNG and JSON that disagree in part, such as')
    assert 'without a pixel [8], of the PNG that the JSON lacks [70000]' in told[0]


def test_segments_without_a_pixel(folder):
    """One is missed, as in panopticapi; where no segment has any, the PNG is of another layout: here grey colours."""
    path = folder / 'a.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['segments_info'].append(dict(id=8, category_id=90, iscrowd=0))
    path.write_text(json.dumps(content))
    metric = metric_of(folder)
    metric.process(None, [sample_of([[1000, 1000, 1000, 2], [1, 1, 2, 2]])])
    assert metric.compute_metrics(metric.results)['PQ_st'] == pytest.approx(100 / 1.5)  # 1 match, 1 missed
    palette = Image.fromarray(np.array([[1, 1, 1, 0], [8, 8, 8, 8]], np.uint8)).convert('P')
    palette.putpalette([level for level in range(256) for _ in range(3)])
    palette.save(folder / 'png' / 'a.png')
    with pytest.raises(ValueError, match=r'a\.png has no pixel of any of the 4 segments that ann_file lists'):
        metric.process(None, [sample_of([[1000, 1000, 1000, 2], [1, 1, 2, 2]])])
