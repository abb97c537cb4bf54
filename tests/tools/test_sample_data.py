import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmplugins.functional.segment_images import segment_ids
from mmplugins.hosts import problem_with
from mmplugins.registry import DATASETS

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'dataset_converters' / 'make_sample_data.py'


def make(out, *arguments):
    command = [sys.executable, str(TOOL), str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp('sample') / 'data'
    done = make(out, '--train', '3', '--val', '2')
    assert done.returncode == 0, done.stderr
    assert f'3 training and 2 validation images (semantic) are in {out}' in done.stdout.replace('\n', ' ')
    return out


def test_pixels_are_the_same_everywhere(made):
    image = np.array(Image.open(made / 'images/val/00000.png'))
    label = np.array(Image.open(made / 'annotations/val/00000.png'))
    assert image.shape == (96, 128, 3)
    assert zlib.crc32(image.tobytes()) == 3743710024
    assert zlib.crc32(label.tobytes()) == 749701868


def test_layout_and_classes(made):
    assert sorted(path.relative_to(made).as_posix() for path in made.rglob('*.png')) == sorted(
        f'{folder}/{split}/{i:05d}.png'
        for folder in ('images', 'annotations')
        for split, count in (('train', 3), ('val', 2))
        for i in range(count)
    )
    settings = json.loads((made / 'sample.json').read_text())
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/sample_96x128.py')
    assert tuple(settings['classes']) == config.metainfo.classes
    assert list(settings['classes'].values()) == config.metainfo.palette
    labels = [np.array(Image.open(path)) for path in (made / 'annotations').rglob('*.png')]
    values = set(np.unique(labels))
    assert values <= {*range(8), 255}
    assert {0, 255} < values
    assert Image.open(made / 'annotations/val/00000.png').getpalette()[3:6] == config.metainfo.palette[1]


def test_larger_set_begins_with_the_smaller(made, tmp_path):
    assert make(tmp_path / 'larger', '--train', '1', '--val', '3').returncode == 0
    for name in ('images/val/00001.png', 'annotations/val/00001.png', 'images/train/00000.png'):
        assert (tmp_path / 'larger' / name).read_bytes() == (made / name).read_bytes()
    assert make(tmp_path / 'other', '--train', '1', '--val', '1', '--seed', '1').returncode == 0
    name = 'images/val/00000.png'
    assert (tmp_path / 'other' / name).read_bytes() != (made / name).read_bytes()


def test_overwrite_removes_its_own_data_only(made, tmp_path):
    mine = tmp_path / 'mine'
    mine.mkdir()
    (mine / 'thesis.tex').write_text('do not touch')
    done = make(mine, '--train', '1', '--val', '1')
    assert done.returncode == 2
    assert 'is not empty; give another folder, or --overwrite' in done.stderr
    done = make(mine, '--train', '1', '--val', '1', '--overwrite')
    assert 'holds no sample.json, so it was not made by this tool' in done.stderr
    assert (mine / 'thesis.tex').read_text() == 'do not touch'

    assert make(tmp_path / 'own', '--train', '2', '--val', '1').returncode == 0
    assert make(tmp_path / 'own', '--train', '1', '--val', '1', '--overwrite').returncode == 0
    assert len(list((tmp_path / 'own/images/train').iterdir())) == 1


def test_camouflage(tmp_path):
    """Masks of 0 and 255 that our data set reads; the mean colours of object and background differ by at most 0.15."""
    out = tmp_path / 'camouflage'
    arguments = '--kind', 'camouflage', '--train', '4', '--val', '2'
    assert make(out, *arguments).returncode == 0
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob('*.png')) == sorted(
        f'{split}/{folder}/{i:05d}.png'
        for folder in ('Imgs', 'GT')
        for split, count in (('train', 4), ('test', 2))
        for i in range(count)
    )
    dataset = DATASETS.build(
        dict(
            type='mmplugins.BinaryMaskDataset',
            data_root=str(out),
            data_prefix=dict(img_path='train/Imgs', seg_map_path='train/GT'),
        )
    )
    assert len(dataset) == 4
    for path in out.rglob('GT/*.png'):
        mask = np.array(Image.open(path))
        assert mask.shape == (96, 128)
        assert set(np.unique(mask)) == {0, 255}
        assert 0.01 < (mask == 255).mean() < 0.5
        image = np.array(Image.open(path.parents[1] / 'Imgs' / path.name)) / 255
        difference = image[mask == 255].mean(axis=0) - image[mask == 0].mean(axis=0)
        assert np.abs(difference).max() < 0.15
    assert zlib.crc32(np.array(Image.open(out / 'test/Imgs/00000.png')).tobytes()) == 3122261494
    assert zlib.crc32(np.array(Image.open(out / 'test/GT/00000.png')).tobytes()) == 260472441

    assert make(out, '--train', '1', '--val', '1', '--overwrite').returncode == 0
    assert not (out / 'train').exists()


def scenes(split, count):
    """Renderings of the scenes of a split, as the tool draws them."""
    sys.path.insert(0, str(TOOL.parent))
    try:
        from make_sample_data import scenes_of_split
        from sample_scenes import render
    finally:
        sys.path.pop(0)
    return [render(scene) for _, scene in scenes_of_split(0, split, count, (96, 128))]


def made_with(kind, folder, train, val):
    done = make(folder, '--kind', kind, '--train', str(train), '--val', str(val))
    assert done.returncode == 0, done.stderr
    return folder


def decoded(run_lengths):
    """Mask of COCO's run lengths, (H, W)."""
    height, width = run_lengths['size']
    values = np.arange(len(run_lengths['counts'])) % 2 == 1
    return np.repeat(values, run_lengths['counts']).reshape(width, height).T


@pytest.fixture(scope='module')
def instances(tmp_path_factory):
    return made_with('instance', tmp_path_factory.mktemp('sample') / 'instance', 5, 8)


@pytest.fixture(scope='module')
def panoptic(tmp_path_factory):
    return made_with('panoptic', tmp_path_factory.mktemp('sample') / 'panoptic', 1, 8)


def test_instances_are_the_scenes(instances):
    content = json.loads((instances / 'annotations/instances_val.json').read_text())
    assert [category['id'] for category in content['categories']] == list(range(1, 8))
    assert [category['name'] for category in content['categories']][-1] == 'pole'
    names = {category['id']: category['name'] for category in content['categories']}
    crowds = 0
    for number, rendering in enumerate(scenes('val', 8), start=1):
        entries = [entry for entry in content['annotations'] if entry['image_id'] == number]
        crowds += sum(entry['iscrowd'] for entry in entries)
        expected = {}  # what is seen of each class
        for thing, mask in zip(rendering.things, rendering.masks, strict=True):
            expected.setdefault(thing.class_name, []).extend([mask] if mask.any() else [])
        for entry in entries:
            mask = decoded(entry['segmentation'])
            masks = expected[names[entry['category_id']]]
            if entry['iscrowd']:
                assert number % 3 == 0
                masks[:] = [np.any(masks, axis=0)]
            index = next(i for i, other in enumerate(masks) if np.array_equal(mask, other))
            masks.pop(index)
            assert entry['area'] == mask.sum()
            left, top, width, height = entry['bbox']
            assert mask[top : top + height, left : left + width].sum() == mask.sum()
            assert mask[top].any()
            assert mask[top + height - 1].any()
            assert mask[:, left].any()
            assert mask[:, left + width - 1].any()
        assert not any(expected.values())
    assert crowds > 0
    assert len({entry['id'] for entry in content['annotations']}) == len(content['annotations'])


def test_panoptic_images_are_the_scenes(panoptic):
    content = json.loads((panoptic / 'annotations/panoptic_val.json').read_text())
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/sample-panoptic_96x128.py')
    assert tuple(category['name'] for category in content['categories']) == config.metainfo.classes
    assert [category['isthing'] for category in content['categories']] == [1] * 7 + [0]
    assert [tuple(category['color']) for category in content['categories']] == config.metainfo.palette
    names = {category['id']: category['name'] for category in content['categories']}
    for rendering, annotation in zip(scenes('val', 8), content['annotations'], strict=True):
        ids = segment_ids(np.array(Image.open(panoptic / 'annotations/panoptic_val' / annotation['file_name'])))
        assert np.array_equal(ids == 0, rendering.unlabelled)
        semantic = np.full(ids.shape, 255)
        for segment in annotation['segments_info']:
            semantic[ids == segment['id']] = list(config.metainfo.classes).index(names[segment['category_id']])
            assert segment['area'] == (ids == segment['id']).sum() > 0
        order = [7, *range(7)]  # the background comes first in the scene's labels
        expected = np.array([*order, *range(8, 255), 255])[rendering.semantic]
        assert np.array_equal(semantic, expected)
        things = [
            segment['id'] for segment in annotation['segments_info'] if names[segment['category_id']] != 'background'
        ]
        if not any(segment['iscrowd'] for segment in annotation['segments_info']):
            seen = rendering.masks & ~rendering.unlabelled
            seen = [mask for mask in seen if mask.any()]
            assert len(things) == len(seen)
            assert all(any(np.array_equal(ids == one, mask) for mask in seen) for one in things)


def toolbox():
    if problem := problem_with('mmdet'):
        pytest.skip(f'mmdet is needed: {problem}')
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')


def pipeline_without_resize(config):
    return [step for step in config.test_pipeline if step.type != 'Resize']


def test_instances_load_and_measure_1(instances):
    """mmdet reads the annotations; their masks as predictions have an average precision of 1."""
    toolbox()
    import torch
    from mmengine.registry import DATASETS, METRICS

    config = Config.fromfile(ROOT / 'configs/_base_/datasets/coco-instance_1024x1024.py')
    classes = Config.fromfile(ROOT / 'configs/_base_/datasets/sample-panoptic_96x128.py').metainfo.classes[:7]
    data = dict(
        data_root=str(instances), ann_file='annotations/instances_val.json', data_prefix=dict(img='images/val/')
    )
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            **data,
            metainfo=dict(classes=classes),
            pipeline=pipeline_without_resize(config),
            test_mode=True,
        )
    )
    assert len(dataset) == 8
    metric = METRICS.build(dict(type='CocoMetric', metric=['bbox', 'segm'], ann_file=str(instances / data['ann_file'])))
    metric.dataset_meta = dataset.metainfo
    crowds = 0
    for item, rendering in zip(dataset, scenes('val', 8), strict=True):
        assert np.array_equal(item['inputs'].numpy()[::-1], rendering.image.transpose(2, 0, 1))
        sample = item['data_samples']
        truth = sample.gt_instances
        masks = torch.from_numpy(truth.masks.to_ndarray()).bool()
        seen = {mask.tobytes() for mask in rendering.masks if mask.any()}
        crowds += len(sample.ignored_instances)
        assert {mask.numpy().tobytes() for mask in masks} <= seen
        assert len(sample.ignored_instances) or len(masks) == len(seen)
        predictions = dict(bboxes=truth.bboxes.tensor, labels=truth.labels, scores=torch.ones(len(masks)), masks=masks)
        metric.process(None, [dict(img_id=sample.img_id, ori_shape=(96, 128), pred_instances=predictions)])
    assert crowds > 0
    values = metric.evaluate(8)
    assert values['coco/segm_mAP'] == 1
    assert values['coco/bbox_mAP'] == 1


def test_panoptic_images_load_and_measure_100(panoptic):
    """mmdet's data set reads them with our loader; as predictions they have a panoptic quality of 100."""
    toolbox()
    import torch
    from mmengine.registry import DATASETS, METRICS

    config = Config.fromfile(ROOT / 'configs/_base_/datasets/sample-panoptic_96x128.py')
    dataset = DATASETS.build({**config.val_dataloader.dataset, 'data_root': str(panoptic)})
    assert len(dataset) == 8
    metric = METRICS.build(
        dict(
            type='mmplugins.CocoPanopticMetric',
            ann_file=str(panoptic / 'annotations/panoptic_val.json'),
            seg_prefix=str(panoptic / 'annotations/panoptic_val'),
        )
    )
    metric.dataset_meta = dataset.metainfo
    crowds = 0
    for item in dataset:
        sample = item['data_samples']
        semantic = sample.gt_sem_seg.sem_seg[0]
        assert semantic.dtype == torch.uint8
        masks = torch.from_numpy(sample.gt_instances.masks.to_ndarray()).bool()
        assert all(
            (semantic[mask] == label).all() for mask, label in zip(masks, sample.gt_instances.labels, strict=True)
        )
        crowds += int((semantic == 255).sum() > 0.1 * semantic.numel())
        segments = torch.where(semantic == 255, 8, semantic.int())
        for number, mask in enumerate(masks, start=1):
            segments[mask] += 1000 * number
        metric.process(None, [dict(img_id=sample.img_id, pred_panoptic_seg=dict(sem_seg=segments[None]))])
    assert crowds > 0  # in one scene of three some shapes are ignored
    assert set(metric.evaluate(8).values()) == {100.0}


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sample') / 'video'
    done = make(folder, '--kind', 'video', '--train', '5', '--val', '2', '--size', '49x65')
    assert done.returncode == 0, done.stderr
    assert '5 training and 2 validation videos (video)' in done.stdout.replace('\n', ' ')
    listed = [len((folder / f'ImageSets/2017/{split}.txt').read_text().split()) for split in ('train', 'val')]
    assert f'{listed[0]} and {listed[1]} of them are listed in ImageSets/2017' in done.stdout.replace('\n', ' ')
    return folder


def masks_of(folder, video):
    return np.stack([np.array(Image.open(path)) for path in sorted((folder / 'Annotations/480p' / video).iterdir())])


def test_videos_in_both_layouts(videos):
    """The JSON tells when each object is seen; the list has the videos whose objects all are at the start."""
    late = 0
    for split, count in (('train', 5), ('val', 2)):
        meta = json.loads((videos / f'meta_{split}.json').read_text())['videos']
        assert sorted(meta) == [f'{split}-{i:05d}' for i in range(count)]
        listed = (videos / f'ImageSets/2017/{split}.txt').read_text().splitlines()
        for name, video in meta.items():
            frames = sorted(path.name for path in (videos / 'JPEGImages/480p' / name).iterdir())
            assert frames == [f'{i:05d}.png' for i in range(16)]
            masks = masks_of(videos, name)
            assert masks.shape == (16, 49, 65)
            for number, entry in video['objects'].items():
                shown = (masks == int(number)).any(axis=(1, 2))
                assert entry['frames'] == [f'{i:05d}' for i in np.flatnonzero(shown)]
            assert set(np.unique(masks)) - {0} == {int(number) for number in video['objects']}
            entering = set(np.unique(masks)) - set(np.unique(masks[0]))
            assert (name in listed) == (not entering)
            late += bool(entering)
            assert len(entering) <= 1
            for number in entering:
                assert not (masks[:5] == number).any()
    assert 1 <= late <= 5


def test_shapes_of_videos_move(videos):
    """Each object's centre moves by at most 0.02 of the shorter side a frame along x and y, once it is all there.

    Parts may be hidden or leave the image, which moves the centre of what is seen; so half of the steps must be small.
    """
    for split in ('train', 'val'):
        for name in (videos / f'ImageSets/2017/{split}.txt').read_text().split():
            masks = masks_of(videos, name)
            image = [np.array(Image.open(videos / f'JPEGImages/480p/{name}/{i:05d}.png')) for i in (0, 1)]
            assert image[0].shape == (49, 65, 3)
            assert not np.array_equal(*image)
            for number in np.unique(masks)[1:]:
                parts = [np.argwhere(mask == number) for mask in masks]
                centres = np.array([part.mean(axis=0) for part in parts if len(part)])
                steps = np.abs(np.diff(centres, axis=0)).max(axis=1)
                assert np.median(steps) <= 0.02 * 49 + 0.5
            assert (masks[0] != masks[-1]).mean() > 0.02


def test_video_pixels_are_the_same_everywhere(videos):
    image = np.array(Image.open(videos / 'JPEGImages/480p/val-00000/00007.png'))
    mask = np.array(Image.open(videos / 'Annotations/480p/val-00000/00007.png'))
    assert zlib.crc32(image.tobytes()) == 3769022265
    assert zlib.crc32(mask.tobytes()) == 1487094985


def test_videos_are_read_by_the_data_set(videos):
    config = Config.fromfile(ROOT / 'configs/_base_/datasets/sample-video_97x129.py')
    dataset = DATASETS.build({**config.val_dataloader.dataset, 'data_root': str(videos), 'pipeline': []})
    listed = (videos / 'ImageSets/2017/val.txt').read_text().split()
    assert len(dataset) == 16 * len(listed) > 0
    prefix = config.val_dataloader.dataset.data_prefix
    training = DATASETS.build(
        dict(type='mmplugins.VOSDataset', data_root=str(videos), ann_file='meta_train.json', data_prefix=prefix)
    )
    assert len(training) == 5
    assert len(training.get_data_info(0)['img_path']) == 16


def test_videos_are_replaced(videos, tmp_path):
    made_with('video', tmp_path / 'out', 1, 1)
    assert make(tmp_path / 'out', '--train', '1', '--val', '1', '--overwrite').returncode == 0
    assert not (tmp_path / 'out/JPEGImages').exists()
    assert not (tmp_path / 'out/meta_val.json').exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--size', '96'], "expected HEIGHTxWIDTH in pixels, such as 96x128, got '96'"),
        (['--size', '8x128'], "each side must be 32 to 4096 pixels, got '8x128'"),
        (['--train', '0'], "expected a number of images, at least 1, got '0'"),
        (['--seed', '-1'], 'argument --seed'),
        (['--kind', 'smell'], "invalid choice: 'smell'"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    done = make(tmp_path / 'out', *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / 'out').exists()
