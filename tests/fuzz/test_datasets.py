"""Data sets over folders that are drawn at random: what is paired, and every fault named with its file."""

import json

import numpy as np
import pytest
from hypothesis import strategies as st

from mmplugins.hosts import problem_with
from tests.fuzz.cases import SEEDS, fuzz
from tests.fuzz.files import folder, palette_image, save

if problem_with('mmseg'):
    pytest.skip(str(problem_with('mmseg')), allow_module_level=True)

from mmplugins.registry import DATASETS

KINDS = ('good', 'good', 'good', 'no mask', 'no image', 'truncated', 'empty', 'text', 'other size', 'twice')
FAULTS = {
    'no mask': 'no mask in the folder',
    'no image': 'no image of this name',
    'truncated': 'unreadable',
    'empty': 'unreadable',
    'text': 'unreadable',
    'other size': 'size',
    'twice': 'two image files',
}


def build(name, **settings):
    return DATASETS.build(dict(type=f'mmplugins.{name}', lazy_init=False, **settings))


def fill(path, kinds, suffix, generator):
    """Writes an image and a mask of each kind; returns the names that are good, in order."""
    images, masks = path / 'Imgs', path / 'GT'
    images.mkdir()
    masks.mkdir()
    good = []
    for index, kind in enumerate(kinds):
        name = f'{"ab"[index % 2]}{index} x'
        size = tuple(int(side) for side in generator.integers(3, 9, 2))
        image = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        mask = np.zeros(size, np.uint8)
        mask[0, 0] = 255
        if kind != 'no image':
            save(image, images / f'{name}{suffix}')
        if kind != 'no mask':
            save(mask if kind != 'other size' else mask.repeat(2, 0), masks / f'{name}.png')
        file = (images if index % 2 else masks) / (f'{name}{suffix}' if index % 2 else f'{name}.png')
        if kind == 'truncated':
            file.write_bytes(file.read_bytes()[: -len(file.read_bytes()) // 3])
        elif kind == 'empty':
            file.write_bytes(b'')
        elif kind == 'text':
            file.write_text('no image')
        elif kind == 'twice':
            save(image, images / f'{name}{".jpeg" if suffix != ".jpeg" else ".png"}')
        if kind == 'good':
            good.append(name)
    return good


def check_folder(dataset, seed, kinds, suffix, test_mode):
    with folder() as path:
        good = fill(path, kinds, suffix, np.random.default_rng(seed))
        faults = [
            (index, kind) for index, kind in enumerate(kinds) if kind not in ('good', *['other size'] * test_mode)
        ]
        unmatched = [kind for _, kind in faults if kind in ('no mask', 'no image', 'twice')]
        settings = dict(data_root=str(path), test_mode=test_mode, pipeline=[])
        if all(kind == 'no image' for kind in kinds) or all(kind == 'no mask' for kind in kinds):
            with pytest.raises(ValueError, match=r'holds no file that ends in one of'):
                build(dataset, **settings)
            return
        if not faults:
            found = build(dataset, **settings)
            infos = [found.get_data_info(index) for index in range(len(found))]
            for info, name in zip(infos, sorted(good if not test_mode else names(kinds)), strict=True):
                for key, file in (('img_path', f'Imgs/{name}{suffix}'), ('seg_map_path', f'GT/{name}.png')):
                    value = info[key] if isinstance(info[key], str) else info[key][0]
                    assert value == str(path / file)
            return
        with pytest.raises(ValueError, match=r'problem\(s\) with the files of') as error:
            build(dataset, **settings)
        text = str(error.value)
        for index, kind in faults:
            if unmatched and kind not in ('no mask', 'no image', 'twice'):
                continue  # files are read once their names match
            name = f'{"ab"[index % 2]}{index} x'
            assert any(name in line and FAULTS[kind] in line for line in text.splitlines()), (name, kind, text)
        assert not any(f'{name}{suffix}' in text or f'{name}.png' in text for name in good), text


def names(kinds):
    return [f'{"ab"[index % 2]}{index} x' for index in range(len(kinds))]


FOLDERS = dict(
    seed=SEEDS,
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    suffix=st.sampled_from(['.jpg', '.JPG', '.png', '.jpeg']),
    test_mode=st.booleans(),
)


@fuzz('BinaryMaskDataset', **FOLDERS)
def test_binary_mask_dataset(**drawn):
    check_folder('BinaryMaskDataset', **drawn)


@fuzz('StaticVOSDataset', **FOLDERS)
def test_static_vos_dataset(**drawn):
    check_folder('StaticVOSDataset', **drawn)


@fuzz(
    'CamVidDataset',
    seed=SEEDS,
    number=st.integers(0, 4),
    extra=st.booleans(),
    test_mode=st.booleans(),
    missing=st.booleans(),
)
def test_camvid_dataset(seed, number, extra, test_mode, missing):
    generator = np.random.default_rng(seed)
    with folder() as path:
        (path / 'images').mkdir()
        (path / 'annotations').mkdir()
        for index in range(number):
            save(generator.integers(0, 256, (4, 5, 3), dtype=np.uint8), path / 'images' / f'{index}.jpg')
            save(generator.integers(0, 11, (4, 5), dtype=np.uint8), path / 'annotations' / f'{index}.png')
        if extra:
            (path / 'images' / 'notes.txt').write_text('no image')
        settings = dict(
            data_root=str(path),
            test_mode=test_mode,
            pipeline=[],
            data_prefix=dict(img_path='images', seg_map_path='annotations'),
        )
        if not number:
            with pytest.raises(ValueError, match=r'no image that ends in \.jpg .*images'):
                build('CamVidDataset', **settings)
            return
        if missing:
            (path / 'annotations' / '0.png').unlink()
            with pytest.raises(ValueError, match=r'1 of .* images have no label map, such as .*0\.png'):
                build('CamVidDataset', **settings)
            return
        found = build('CamVidDataset', **settings)
        assert len(found) == number
        for index in range(number):
            info = found.get_data_info(index)
            assert info['img_path'] == str(path / 'images' / f'{index}.jpg')
            assert info['seg_map_path'] == str(path / 'annotations' / f'{index}.png')
        assert len(found.metainfo['classes']) == 11


VIDEO_FAULTS = {
    'no frames': 'no frames in',
    'no first mask': 'has no mask',
    'no mask': 'without a mask',
    'stray mask': 'without a frame',
    'broken mask': 'no image that can be read',
    'broken frame': 'no image that can be read',
    'empty frame': 'no image that can be read',
    'other size': 'is (5, 5), its frame',
    'two suffixes': 'with the name of another one',
}


@fuzz(
    'VOSDataset',
    seed=SEEDS,
    kinds=st.lists(st.sampled_from(['good', 'good', 'good', *VIDEO_FAULTS]), min_size=1, max_size=3),
    frames=st.integers(2, 4),
    test_mode=st.booleans(),
    listed=st.booleans(),
)
def test_vos_dataset(seed, kinds, frames, test_mode, listed):
    generator = np.random.default_rng(seed)
    with folder() as path:
        content = {}
        for index, kind in enumerate(kinds):
            name = f'video {index}'
            images, masks = path / 'JPEGImages' / name, path / 'Annotations' / name
            for number in range(frames):
                if kind != 'no frames':
                    save(generator.integers(0, 256, (4, 6, 3), dtype=np.uint8), images / f'{number}.jpg')
                mask = np.zeros((4, 6), np.uint8)
                mask[1, 1:4] = 1, 2, 2
                if not ((kind == 'no first mask' and number == 0) or (kind == 'no mask' and number == 1)):
                    palette_image(mask, masks / f'{number}.png')
            first = masks / '0.png'
            if kind == 'stray mask':
                palette_image(mask, masks / '77.png')
            elif kind == 'broken mask':
                first.write_bytes(first.read_bytes()[:25])
            elif kind == 'broken frame':
                (images / '0.jpg').write_text('no image')
            elif kind == 'empty frame':
                (images / '0.jpg').write_bytes(b'')
            elif kind == 'other size':
                palette_image(np.ones((5, 5), np.uint8), first)
            elif kind == 'two suffixes':
                save(generator.integers(0, 256, (4, 6, 3), dtype=np.uint8), images / '1.png')
            content[name] = {'objects': {'1': {'frames': [str(number) for number in range(frames)]}}}
        file = path / ('meta.json' if listed else 'train.txt')
        file.write_text(json.dumps({'videos': content}) if listed else '\n'.join(content))
        faults = [(index, kind) for index, kind in enumerate(kinds) if kind != 'good']
        if test_mode:
            faults = [pair for pair in faults if pair[1] != 'no mask']
        if listed:  # what the list does not name does not count
            faults = [pair for pair in faults if pair[1] != 'stray mask']
        settings = dict(
            ann_file=file.name,
            data_root=str(path),
            test_mode=test_mode,
            pipeline=[],
            data_prefix=dict(img_path='JPEGImages', seg_map_path='Annotations'),
        )
        if faults:
            with pytest.raises(ValueError, match=r'problem\(s\) with the videos') as error:
                build('VOSDataset', **settings)
            for index, kind in faults:
                lines = [line for line in str(error.value).splitlines() if f'video {index}' in line]
                wanted = VIDEO_FAULTS[kind]
                assert any(wanted in line for line in lines), (kind, str(error.value))
            return
        found = build('VOSDataset', **settings)
        assert len(found) == len(kinds) * (frames if test_mode else 1)
        for index in range(len(found)):
            info = found.get_data_info(index)
            video = f'video {index // frames if test_mode else index}'
            numbers = [index % frames] if test_mode else range(frames)
            assert info['video_name'] == video
            assert info['img_path'] == [str(path / 'JPEGImages' / video / f'{number}.jpg') for number in numbers]
            if test_mode:
                assert (info['frame_id'], info['num_frames']) == (index % frames, frames)


class Frames:
    """Stands for a data set of frames."""

    def __init__(self, lengths):
        self.entries = [dict(video_name=f'v{i}', frame_id=frame) for i, n in enumerate(lengths) for frame in range(n)]

    def __len__(self):
        return len(self.entries)

    def get_data_info(self, index):
        return self.entries[index]


@fuzz('VideoSampler', lengths=st.lists(st.integers(1, 6), max_size=6), world=st.integers(1, 4))
def test_video_sampler(lengths, world):
    """Each frame once, each video whole and in order on one process, no process longer than it must be."""
    from mmplugins.datasets.samplers import video_sampler

    dataset, found = Frames(lengths), []
    if not lengths:
        with pytest.raises(ValueError, match='the data set has no frames'):
            video_sampler.VideoSampler(dataset)
        return
    for rank in range(world):
        original, video_sampler.get_dist_info = video_sampler.get_dist_info, lambda rank=rank: (rank, world)
        try:
            sampler = video_sampler.VideoSampler(dataset)
        finally:
            video_sampler.get_dist_info = original
        assert len(sampler) == len(list(sampler))
        found.append(list(sampler))
        for before, after in zip(found[-1], found[-1][1:], strict=False):
            assert after == before + 1 or dataset.entries[after]['frame_id'] == 0
    assert sorted(index for part in found for index in part) == list(range(len(dataset)))
    owner = {dataset.entries[index]['video_name']: rank for rank, part in enumerate(found) for index in part}
    for rank, part in enumerate(found):
        assert all(owner[dataset.entries[index]['video_name']] == rank for index in part)
    # the bound of handing out the longest first
    assert max(map(len, found)) <= sum(lengths) / world + max(lengths)
