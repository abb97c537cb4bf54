import numpy as np
import pytest
from PIL import Image

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
    config = dict(type='mmplugins.CamVidDataset', data_root=str(tmp_path), data_prefix=PREFIX)
    dataset = DATASETS.build(config | dict(check_files=False))
    assert len(dataset) == 1
    assert dataset.metainfo['classes'][2] == 'pole'
    assert len(dataset.metainfo['classes']) == len(dataset.metainfo['palette']) == 11
    assert dataset.get_data_info(0)['seg_map_path'] == str(tmp_path / 'annotations/val/a.png')
    assert dataset.get_data_info(0)['reduce_zero_label'] is False
    with pytest.raises(ValueError, match=r'2 problem\(s\) with the files of .*\n.*a\.jpg: unreadable'):
        DATASETS.build(config)


def test_faulty_files_are_named_at_start(tmp_path):
    images, labels = tmp_path / 'images/val', tmp_path / 'annotations/val'
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    config = dict(type='mmplugins.CamVidDataset', data_root=str(tmp_path), data_prefix=PREFIX)
    with pytest.raises(ValueError, match=r'there is no image that ends in \.jpg in .*images/val'):
        DATASETS.build(config)
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    for name in ('truncated', 'size', 'range', 'colours', 'good'):
        Image.fromarray(picture).save(images / f'{name}.jpg')
        size = (40, 50) if name == 'size' else (40, 60)
        label = np.full(size, 11 if name == 'range' else 10, np.uint8)
        Image.fromarray(label).convert('RGB' if name == 'colours' else 'L').save(labels / f'{name}.png')
    (images / 'truncated.jpg').write_bytes((images / 'truncated.jpg').read_bytes()[:600])
    with pytest.raises(ValueError, match=r'4 problem\(s\)') as error:
        DATASETS.build(config)
    for text in (
        'truncated.jpg: unreadable, OSError: ',
        'size.jpg: size (60, 40), but its label map (50, 40)',
        'range.png: labels [11], but there are 11 classes, 0 to 10, and 255',
        'colours.png: mode RGB has colours, no labels',
    ):
        assert text in str(error.value)
    assert 'good' not in str(error.value)
    (labels / 'good.png').unlink()
    with pytest.raises(ValueError, match=r'1 of 5 images have no label map, such as .*good\.png'):
        DATASETS.build(config)
    with pytest.raises(FileNotFoundError, match=r'img_path .*nowhere is no folder'):
        DATASETS.build(config | dict(data_prefix=dict(PREFIX, img_path='nowhere')))


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
