"""Broken files and lists: one message each, with the file's name; a whole run is in tests/tools/test_train.py."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image

from mmplugins.engine.data_errors import DataSetError, SampleError, name_files
from tests.datasets.videos import PREFIX, square, write_davis
from tests.tools.tiny_run import CLASSES, make_data

REMEDY = r'Mend or remove the file .*--resume goes on from the last checkpoint'
LABELS = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]


def loader(dataset: dict, scope: str, workers: int = 0):
    """The loader that a runner of the tools builds."""
    init_default_scope(scope)
    settings = dict(batch_size=2, num_workers=workers, sampler=dict(type='DefaultSampler', shuffle=False))
    head = dict(decode_head=dict(num_classes=3)) if scope == 'mmseg' else {}
    cfg = Config(dict(train_dataloader=dict(**settings, dataset=dataset), model=head))
    runner = SimpleNamespace(build_dataloader=Runner.build_dataloader)
    name_files(runner, cfg)
    return runner.build_dataloader(cfg.train_dataloader, seed=0)


# Label maps -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def labels(tmp_path) -> dict:
    pytest.importorskip('mmseg')
    return dict(
        type='BaseSegDataset',
        data_root=str(make_data(tmp_path / 'set', count=3)),
        data_prefix=dict(img_path='images', seg_map_path='annotations'),
        img_suffix='.png',
        metainfo=dict(classes=CLASSES, palette=[[0, 0, 0]] * 3),
        pipeline=LABELS,
    )


def save(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path)


def test_whole_files_are_loaded(labels):
    batches = list(loader(labels, 'mmseg'))
    assert [len(batch['inputs']) for batch in batches] == [2, 1]
    assert [type(step).__name__ for step in loader(labels, 'mmseg').dataset.pipeline.transforms] == [
        step['type'] for step in LABELS
    ]


@pytest.mark.parametrize(
    ('name', 'change', 'message'),
    [
        ('images', lambda path: path.write_bytes(path.read_bytes()[:99]), r'failed to load image: \S+images/1\.png'),
        ('images', lambda path: path.write_bytes(b''), r'^LoadImageFromFile: \S+images/1\.png has 0 bytes\.'),
        ('images', Path.unlink, r'LoadImageFromFile: FileNotFoundError: .*images/1\.png'),
        (
            'annotations',
            lambda path: path.write_bytes(path.read_bytes()[:60]),
            r'annotations/1\.png: LoadAnno\S+ OSErr',
        ),
        (
            'annotations',
            lambda path: save(path, np.zeros((29, 41), np.uint8)),
            r'1\.png with \S+annotations/1\.png: LoadAnnotations: the label map is \(29, 41\), its image \(32, 48\)',
        ),
        (
            'annotations',
            lambda path: save(path, np.full((32, 48), 3, np.uint8)),
            r'annotations/1\.png: LoadAnnotations: the label map has the labels \[3\], but there are 3 classes',
        ),
        (
            'annotations',
            lambda path: save(path, np.zeros((32, 48, 4), np.uint8)),
            r'annotations/1\.png: LoadAnnotations: the label map has 4 channels: colours',
        ),
        (
            'annotations',
            lambda path: save(path, np.full((32, 48), 257, np.uint16)),
            r'annotations/1\.png: LoadAnnotations: the label map has 16 bits and values up to 257',
        ),
    ],
    ids=['truncated', 'empty', 'gone', 'truncated mask', 'size', 'label', 'colours', '16 bits'],
)
def test_a_file_that_is_broken_is_named_when_it_is_read(labels, name, change, message):
    """What breaks after the start; the error is that of the main process."""
    batches = loader(labels, 'mmseg')
    change(Path(labels['data_root'], name, '1.png'))
    with pytest.raises(SampleError, match=f'(?s){message}.*{REMEDY}'):
        list(batches)


def test_in_a_worker(labels):
    batches = loader(labels, 'mmseg', workers=1)
    save(Path(labels['data_root'], 'annotations', '1.png'), np.full((32, 48), 9, np.uint8))
    iterator = iter(batches)
    with pytest.raises(SampleError, match='Caught SampleError in DataLoader worker process 0') as caught:
        list(iterator)
    iterator._shutdown_workers()  # now, not in a test that comes later
    assert re.fullmatch(
        rf'\S+images/1\.png with \S+annotations/1\.png: LoadAnnotations: .*\[9\].* {REMEDY}', caught.value.short
    )


def test_a_test_set_may_have_labels_of_another_size(labels):
    save(Path(labels['data_root'], 'annotations', '1.png'), np.zeros((29, 41), np.uint8))
    assert len(list(loader(dict(labels, test_mode=True), 'mmseg'))) == 2


def test_transparent_images_are_told_at_start(labels, capfd):
    MMLogger.get_instance('transparent')  # writes to what capfd holds now
    path = Path(labels['data_root'], 'images', '1.png')
    Image.new('RGBA', (48, 32), (9, 9, 9, 0)).save(path)
    loader(labels, 'mmseg')
    told = [line for line in ''.join(capfd.readouterr()).splitlines() if 'images have an alpha channel' in line]
    assert len(told) == 1
    assert 'WARNING - data: train_dataloader.dataset: 1 of 3 images have an alpha channel, which loaders do' in told[0]
    assert f'such as {path}; save them as RGB images of 8 bits' in told[0]
    kept = [dict(type='LoadImageFromFile', color_type='unchanged'), *LABELS[1:]]
    loader(dict(labels, pipeline=kept), 'mmseg')
    assert 'images have' not in ''.join(capfd.readouterr())


def test_frames_of_a_video_that_is_transparent_in_the_middle(tmp_path, capfd):
    """Every frame is looked at, not the first of each clip alone."""
    pytest.importorskip('mmseg')
    write_davis(tmp_path, {'cow': [square(1, 0, left) for left in range(5)]})
    path = tmp_path / 'JPEGImages/480p/cow/00003.png'
    Image.new('RGBA', (32, 24), (9, 9, 9, 0)).save(path)
    clip = [dict(type='mmplugins.SampleClip', length=2), dict(type='mmplugins.LoadClip')]
    dataset = dict(
        type='mmplugins.VOSDataset',
        data_root=str(tmp_path),
        ann_file='ImageSets/2017/train.txt',
        data_prefix=PREFIX,
        pipeline=clip,
    )
    MMLogger.get_instance('a transparent frame')
    loader(dataset, 'mmseg')
    said = ''.join(capfd.readouterr())
    assert 'train_dataloader.dataset: 1 of 5 images have an alpha channel' in said
    assert f'such as {path};' in said


def test_ignored_pixels_and_joined_data_sets(labels):
    save(Path(labels['data_root'], 'annotations', '0.png'), np.full((32, 48), 255, np.uint8))
    joined = dict(type='ConcatDataset', datasets=[labels, labels])
    assert len(list(loader(joined, 'mmseg'))) == 3
    save(Path(labels['data_root'], 'annotations', '1.png'), np.full((32, 48), 9, np.uint8))
    with pytest.raises(SampleError, match=r'annotations/1\.png'):
        list(loader(joined, 'mmseg'))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(img_suffix='.jpg'), r'it has no entries; look at data_root, data_prefix, ann_file and suffixes'),
        (dict(seg_map_suffix='.gif'), r'3 of 3 files of seg_map_path are not there, such as \S+annotations/\d\.gif'),
        (
            dict(data_prefix=dict(img_path='gone')),
            r"data_root \S+, data_prefix \{'img_path': 'gone'\}\): FileNotFoundE",
        ),
    ],
)
def test_files_that_are_not_there(labels, change, message):
    with pytest.raises(DataSetError, match=rf'train_dataloader\.dataset \(.*{message}'):
        loader({**labels, **change}, 'mmseg')


def test_misspelt_types_stay_what_they_are(labels):
    with pytest.raises(KeyError, match='Nothing is not in the'):
        loader(dict(labels, type='Nothing'), 'mmseg')
    with pytest.raises(TypeError, match='no_argument'):
        loader(dict(labels, no_argument=1), 'mmseg')


# COCO -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def boxes(tmp_path) -> dict:
    pytest.importorskip('mmdet')
    (tmp_path / 'images').mkdir()
    for number in range(2):
        save(tmp_path / 'images' / f'{number}.png', np.zeros((30, 40, 3), np.uint8))
    content = dict(
        images=[dict(id=i, file_name=f'{i}.png', height=30, width=40) for i in range(2)],
        annotations=[
            dict(id=i, image_id=i, category_id=1 + i, bbox=[2, 3, 10, 12], area=120, iscrowd=0) for i in range(2)
        ],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
    )
    (tmp_path / 'all.json').write_text(json.dumps(content))
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs'),
    ]
    return dict(
        type='CocoDataset',
        data_root=str(tmp_path),
        ann_file='all.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=('cat', 'dog')),
        pipeline=pipeline,
    )


def rewrite(dataset: dict, change) -> None:
    path = Path(dataset['data_root'], 'all.json')
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_whole_coco_set(boxes):
    assert len(list(loader(boxes, 'mmdet'))) == 1


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda content: content['categories'].pop(),
            r"all\.json has no category 'dog'; it has 'cat'\. Spell metainfo\.classes as the file does",
        ),
        (
            lambda content: content['annotations'][0].pop('area'),
            r"ann_file all\.json.*the annotation file lacks '.*area.*', a key or the id of a category",
        ),
        (lambda content: content.update(images=[], annotations=[]), r'ann_file all\.json.*it has no entries'),
        (
            lambda content: content['images'][1].update(file_name='other.png'),
            r'1 of 2 files of img_path are not there, such as \S+images/other\.png',
        ),
    ],
    ids=['categories', 'key', 'no images', 'path'],
)
def test_lists_that_are_wrong_are_named_at_start(boxes, change, message):
    rewrite(boxes, change)
    with pytest.raises(DataSetError, match=message):
        loader(boxes, 'mmdet')


def test_an_empty_annotation_file(boxes):
    Path(boxes['data_root'], 'all.json').write_text('')
    with pytest.raises(DataSetError, match=r'ann_file all\.json.*the annotation file is no JSON .*empty or cut off'):
        loader(boxes, 'mmdet')


def test_boxes_outside_the_image_are_told(boxes, monkeypatch):
    told = []
    monkeypatch.setattr('mmplugins.engine.data_errors.print_log', lambda text, **_: told.append(text))
    loader(boxes, 'mmdet')
    assert told == []
    rewrite(boxes, lambda content: content['annotations'][1].update(bbox=[25, 3, 30, 12]))
    loader(boxes, 'mmdet')
    assert re.search(r'1 of 2 boxes of \S+all\.json .*\[25, 3, 30, 12\] .* in 1\.png, which is \(40, 30\)', told[0])


def test_an_image_of_another_size_than_the_list_says(boxes):
    save(Path(boxes['data_root'], 'images', '1.png'), np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(SampleError, match=r'images/1\.png: LoadImageFromFile: the image is \(60, 80\), .* \(30, 40\)'):
        list(loader(boxes, 'mmdet'))
