import numpy as np
import pytest

from mmplugins.hosts import problem_with
from mmplugins.registry import DATASETS
from tests.locations import data_root

pytestmark = pytest.mark.skipif(bool(problem_with('mmseg')), reason=str(problem_with('mmseg')))
PREFIX = dict(img_path='images/val', seg_map_path='annotations/val')
PIPELINE = [dict(type='mmseg.LoadAnnotations')]


def test_classes_and_files(tmp_path):
    for folder, suffix in (('images', '.jpg'), ('annotations', '.png')):
        (tmp_path / folder / 'val').mkdir(parents=True)
        (tmp_path / folder / 'val' / f'a{suffix}').touch()
    dataset = DATASETS.build(dict(type='mmplugins.CamVidDataset', data_root=str(tmp_path), data_prefix=PREFIX))
    assert len(dataset) == 1
    assert dataset.metainfo['classes'][2] == 'pole'
    assert len(dataset.metainfo['classes']) == len(dataset.metainfo['palette']) == 11
    assert dataset.get_data_info(0)['seg_map_path'] == str(tmp_path / 'annotations/val/a.png')
    assert dataset.get_data_info(0)['reduce_zero_label'] is False


def test_real_labels_are_classes():
    root = data_root('camvid')
    dataset = DATASETS.build(
        dict(type='mmplugins.CamVidDataset', data_root=str(root), data_prefix=PREFIX, pipeline=PIPELINE)
    )
    assert len(dataset) == 101
    labels = np.stack([dataset[i]['gt_seg_map'] for i in range(5)])
    assert labels.shape == (5, 360, 480)
    assert set(np.unique(labels)) <= {*range(11), 255}
    road, sky = 3, 0
    top, bottom = labels[:, :40], labels[:, 300:]  # the order of the classes: sky is above, road below
    assert (top == sky).mean() > 0.25 > (bottom == sky).mean()
    assert (bottom == road).mean() > 0.4 > (top == road).mean()
