"""Transforms of clips, drawn at random, beside plain references.

Frames say where they come from: their first channel is the row, the second the column, the third the frame's number.
"""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from mmplugins.hosts import problem_with
from mmplugins.registry import TRANSFORMS
from tests.fuzz.cases import SEEDS, fuzz
from tests.fuzz.files import folder, palette_image, save

SIZE = st.tuples(st.integers(1, 40), st.integers(1, 40))
LENGTH = st.integers(1, 4)


def build(name, **settings):
    return TRANSFORMS.build(dict(type=f'mmplugins.{name}', **settings))


def frame_of(size, number=0, dtype=np.uint8):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([rows, columns, np.full(size, number)], -1).astype(dtype)


def object_masks(generator, length, size, numbers=(0, 1, 2, 7, 200, 255)):
    """Masks of rectangles, with some of these values."""
    masks = np.zeros((length, *size), np.uint8)
    for mask in masks:
        for number in generator.choice(numbers, 3):
            top, left = (generator.integers(0, side) for side in size)
            mask[top : top + generator.integers(1, 30), left : left + generator.integers(1, 30)] = number
    return list(masks)


def counts(mask):
    return {number: int((mask == number).sum()) for number in range(1, 255) if (mask == number).any()}


def renumbered(new, old, min_pixels, max_objects):
    """Checks that masks are others with the first one's large objects numbered from 1; returns how many."""
    joined = np.stack([np.concatenate([mask.ravel() for mask in masks]) for masks in (old, new)], 1)
    pairs = np.unique(joined, axis=0).tolist()
    table = dict(pairs)
    assert len(table) == len(pairs), f'a number became two others: {pairs}'
    kept = {before: after for before, after in table.items() if after and before != 255}
    large = [number for number, pixels in counts(old[0]).items() if pixels > min_pixels]
    assert len(kept) == min(len(large), max_objects)
    assert set(kept) <= set(large)
    assert sorted(kept.values()) == list(range(1, len(kept) + 1))
    assert table.get(0, 0) == 0
    assert table.get(255, 255) == 255
    return len(kept)


@fuzz(
    'RandomCropClip',
    seed=SEEDS,
    size=SIZE,
    crop=SIZE,
    length=LENGTH,
    min_pixels=st.sampled_from([0, 5, 100]),
    max_objects=st.integers(1, 3),
    dtype=st.sampled_from([np.uint8, np.float32]),
)
def test_random_crop_clip(seed, size, crop, length, min_pixels, max_objects, dtype):
    generator = np.random.default_rng(seed)
    masks = object_masks(generator, length, size)
    random.seed(seed)
    results = dict(img=[frame_of(size, i, dtype) for i in range(length)], gt_seg_map=masks)
    transform = build(
        'RandomCropClip', crop_size=crop, min_pixels=min_pixels, max_objects=max_objects, pad_value=(250, 251, 252)
    )
    found = transform(results)
    if found is None:
        return
    assert found['img_shape'] == tuple(crop)
    inside = found['img'][0][..., 2] != 252
    rows, columns = np.nonzero(inside.any(1))[0], np.nonzero(inside.any(0))[0]
    window = np.ix_(rows, columns)
    assert inside[window].all()
    assert len(rows) == min(crop[0], size[0])
    assert len(columns) == min(crop[1], size[1])
    old, new = [], []
    top, left = found['img'][0][window][0, 0, :2].astype(int)
    for number, (frame, mask) in enumerate(zip(found['img'], found['gt_seg_map'], strict=True)):
        assert frame.shape == (*crop, 3)
        assert frame.dtype == dtype
        part = np.s_[top : top + len(rows), left : left + len(columns)]
        assert np.array_equal(frame[window], frame_of(size, number, dtype)[part])
        old.append(masks[number][part])
        new.append(mask[window])
        outside = np.ones(crop, bool)
        outside[window] = False
        assert not mask[outside].any()
    assert found['num_objects'] == renumbered(new, old, min_pixels, max_objects) >= 1


class Clips:
    """Stands for a data set whose entries are clips."""

    def __init__(self, entries):
        self.entries = entries

    def __len__(self):
        return len(self.entries)

    def get_data_info(self, index):
        return dict(self.entries[index])


@fuzz(
    'MergeClips',
    seed=SEEDS,
    size=SIZE,
    length=LENGTH,
    entries=st.integers(1, 3),
    other_size=st.booleans(),
    min_pixels=st.sampled_from([0, 5]),
    max_objects=st.integers(1, 5),
    prob=st.sampled_from([0.0, 1.0]),
)
def test_merge_clips(seed, size, length, entries, other_size, min_pixels, max_objects, prob):
    generator = np.random.default_rng(seed)
    random.seed(seed)
    clips = []
    for number in range(entries):
        area = (size[0] + 1, size[1]) if other_size and number else size
        masks = object_masks(generator, length, area, (0, 1, 2, 255))
        clips.append(
            dict(img=[frame_of(area, 10 * number + i) for i in range(length)], gt_seg_map=masks, num_objects=2)
        )
    dataset = Clips(clips)
    results = dict(clips[0], dataset=dataset, sample_idx=0)
    merge = build('MergeClips', pre_transform=[], prob=prob, min_pixels=min_pixels, max_objects=max_objects)
    if prob == 1 and entries > 1 and other_size:
        with pytest.raises(ValueError, match='must have one length and size'):
            merge(results)
        return
    found = merge(results)
    if prob == 0 or entries == 1:
        assert found['gt_seg_map'] is clips[0]['gt_seg_map']
        return
    number = int(max(frame[..., 2].max() for frame in found['img'])) // 10
    expected = []
    for i in range(length):
        first, other = clips[0]['gt_seg_map'][i], clips[number]['gt_seg_map'][i]
        pasted = np.isin(other, (1, 2)) if number else np.zeros(size, bool)
        expected.append(np.where(pasted, other + 2, first))
        frame = np.where(pasted[..., None], clips[number]['img'][i], clips[0]['img'][i])
        assert np.array_equal(found['img'][i], frame)
    if number:  # else nothing was pasted, and which clip it was does not show
        assert found['num_objects'] == renumbered(found['gt_seg_map'], expected, min_pixels, max_objects)


@fuzz(
    'SyntheticClip',
    seed=SEEDS,
    size=SIZE,
    new=SIZE,
    length=LENGTH,
    still=st.booleans(),
    backend=st.sampled_from(['cv2', 'pillow']),
    min_pixels=st.sampled_from([0, 5, 100]),
)
def test_synthetic_clip(seed, size, new, length, still, backend, min_pixels):
    generator = np.random.default_rng(seed)
    random.seed(seed)
    mask = object_masks(generator, 1, size)[0]
    frame = frame_of(size, 9)
    quiet = dict(flip_prob=0, degrees=0, translate=0, scale=(1, 1), shear=0, crop_area=(1, 1), crop_ratio=(1, 1))
    clip = build(
        'SyntheticClip', size=new, length=length, min_pixels=min_pixels, backend=backend, **(quiet if still else {})
    )
    found = clip(dict(img=[frame], gt_seg_map=[mask]))
    if found is None:
        assert not still or size != new or not any(pixels > min_pixels for pixels in counts(mask).values())
        return
    assert [one.shape for one in found['img']] == [(*new, 3)] * length
    assert [one.shape for one in found['gt_seg_map']] == [tuple(new)] * length
    for one in found['gt_seg_map']:
        assert set(np.unique(one)) <= {*range(found['num_objects'] + 1), 255}
    if still and size == new and (size[0] > 1 and size[1] > 1):
        for image in found['img']:
            assert np.array_equal(image, frame)
        renumbered(found['gt_seg_map'], [mask] * length, min_pixels, 10)


@fuzz(
    'ResizeClip',
    seed=SEEDS,
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    short=st.sampled_from([None, 7, 33.5]),
    long=st.sampled_from([None, 16, 80]),
    stride=st.sampled_from([1, 4, 16]),
    align=st.booleans(),
)
def test_resize_clip(seed, size, short, long, stride, align):
    height, width = map(float, size)
    if short is not None and min(height, width) > short:
        height, width = (side * short / min(height, width) for side in (height, width))
    if long is not None and max(height, width) > long:
        height, width = (side * long / max(height, width) for side in (height, width))
    resize = build('ResizeClip', max_short_edge=short, max_long_edge=long, stride=stride, align_corners=align)
    results = resize(dict(img=[np.full((*size, 3), 77, np.uint8)] * 2))
    extra = 1 if align else 0
    for side, exact in zip(results['img_shape'], (height, width), strict=True):
        assert (side - extra) % stride == 0
        assert side >= stride + extra
        assert abs(side - exact) < stride / 2 + 1 or side == stride + extra  # sides are cut to integers first
    for image in results['img']:
        assert image.shape == (*results['img_shape'], 3)
        assert (image == 77).all()


@fuzz(
    'SampleClip',
    seed=SEEDS,
    frames=st.integers(1, 6),
    size=SIZE,
    length=st.integers(1, 5),
    max_gap=st.integers(1, 4),
    reverse=st.sampled_from([0.0, 0.5, 1.0]),
    min_pixels=st.sampled_from([0, 50]),
    binary=st.booleans(),
)
def test_sample_clip(seed, frames, size, length, max_gap, reverse, min_pixels, binary):
    generator = np.random.default_rng(seed)
    random.seed(seed)
    masks = object_masks(generator, frames, size, (0, 255) if binary else (0, 1, 2, 7))
    sample = build('SampleClip', length=length, max_gap=max_gap, reverse_prob=reverse, min_pixels=min_pixels)
    with folder() as path:
        paths = [palette_image(mask, path / f'{i}.png') for i, mask in enumerate(masks)]
        results = dict(
            img_path=[f'{i}.jpg' for i in range(frames)],
            seg_map_path=paths,
            video_name='v',
            mask_threshold=0 if binary else None,
        )
        found = sample(results)
    pixels = [int(((mask > 0) & (mask != (256 if binary else 255))).sum()) for mask in masks]
    if not any(pixels):
        assert found is None
        return
    chosen = [int(name.split('.')[0]) for name in found['img_path']]
    assert len(chosen) == length
    assert all(0 <= one < frames for one in chosen)
    first = pixels[chosen[0]]
    assert first > min_pixels or first == max(pixels)
    for before, after in pairwise(chosen):
        assert abs(after - before) <= max_gap
    for mask, one, mask_path in zip(found['gt_seg_map'], chosen, found['seg_map_path'], strict=True):
        assert mask_path == paths[one]
        assert np.array_equal(mask, masks[one] > 0 if binary else masks[one])


@fuzz(
    'LoadClip',
    seed=SEEDS,
    size=SIZE,
    length=LENGTH,
    to_float32=st.booleans(),
    wrong=st.sampled_from([None, None, 'size', 'broken', 'empty']),
    mode=st.sampled_from(['RGB', 'L', 'RGBA']),
)
def test_load_clip(seed, size, length, to_float32, wrong, mode):
    generator = np.random.default_rng(seed)
    frames = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(length)]
    if mode == 'L':
        frames = [np.repeat(frame[..., :1], 3, -1) for frame in frames]
    with folder() as path:
        paths = [save(frame[..., ::-1], path / f'{i}.png', mode) for i, frame in enumerate(frames)]
        last = path / f'{length - 1}.png'
        if wrong == 'size':
            save(frames[-1][:, : size[1] // 2 + 2].repeat(3, 1), last)
        elif wrong == 'broken':
            last.write_bytes(last.read_bytes()[:20])
        elif wrong == 'empty':
            last.write_bytes(b'')
        load = build('LoadClip', to_float32=to_float32)
        results = dict(img_path=paths, video_name='bear')
        if wrong in ('broken', 'empty') or (wrong == 'size' and length > 1):
            with pytest.raises(ValueError, match=rf'video bear.*{last.name}'):
                load(results)
            return
        found = load(results)
    if wrong == 'size':
        return
    assert found['img_shape'] == found['ori_shape'] == tuple(size)
    for image, frame in zip(found['img'], frames, strict=True):
        assert image.dtype == (np.float32 if to_float32 else np.uint8)
        assert np.array_equal(image, frame)


@fuzz(
    'LoadClipMasks',
    seed=SEEDS,
    size=SIZE,
    length=LENGTH,
    threshold=st.sampled_from([None, 0]),
    missing=st.booleans(),
    wrong=st.booleans(),
    palette=st.booleans(),
)
def test_load_clip_masks(seed, size, length, threshold, missing, wrong, palette):
    generator = np.random.default_rng(seed)
    masks = object_masks(generator, length, size, (0, 1, 2, 7, 200))
    with folder() as path:
        paths = [(palette_image if palette else save)(mask, path / f'{i}.png') for i, mask in enumerate(masks)]
        frames = [save(frame_of(size), path / f'{i}.jpg') for i in range(length)]
        shape = (size[0] + 1, size[1]) if wrong else size
        given = [None if missing and i else one for i, one in enumerate(paths)]
        results = dict(
            seg_map_path=given, img_path=frames, ori_shape=shape, video_name='bear', mask_threshold=threshold
        )
        if wrong:
            with pytest.raises(ValueError, match=r'video bear: the mask .*0\.png is'):
                build('LoadClipMasks')(results)
            return
        found = build('LoadClipMasks')(results)['gt_seg_map']
    for one, mask, name in zip(found, masks, given, strict=True):
        assert (one is None) == (name is None)
        if one is not None:
            assert one.dtype == np.uint8
            assert np.array_equal(one, mask if threshold is None else mask > 0)


@pytest.mark.skipif(problem_with('mmseg') is not None, reason=str(problem_with('mmseg')))
def test_pack_clip():
    fuzzed_pack_clip()


@fuzz(
    'PackClip',
    seed=SEEDS,
    size=SIZE,
    length=LENGTH,
    test=st.booleans(),
    frame_id=st.integers(0, 1),
    new=st.lists(st.sampled_from([1, 2, 7]), max_size=2, unique=True),
    masked=st.booleans(),
    dtype=st.sampled_from([np.uint8, np.float32]),
)
def fuzzed_pack_clip(seed, size, length, test, frame_id, new, masked, dtype):
    generator = np.random.default_rng(seed)
    length = 1 if test else length
    masks = object_masks(generator, length, size)
    results = dict(
        img=[frame_of(size, i, dtype) for i in range(length)],
        gt_seg_map=masks,
        video_name='bear',
        img_path=['a.jpg'] * length,
        seg_map_path=['a.png'] * length,
    )
    if test:
        results.update(new_objects=new, frame_id=frame_id)
        if not masked:
            results['gt_seg_map'] = [None]
    else:
        results['num_objects'] = 3
    given = masks[0] if frame_id == 0 else np.where(np.isin(masks[0], new), masks[0], 0)
    needed = test and masked and (frame_id == 0 or new)
    if needed and not counts(given):
        with pytest.raises(ValueError, match=r'the mask a.png must show'):
            build('PackClip')(results)
        return
    packed = build('PackClip')(results)
    expected = np.stack(results['img']).transpose(0, 3, 1, 2)
    assert torch.equal(packed['inputs'], torch.from_numpy(np.ascontiguousarray(expected)))
    sample = packed['data_samples']
    assert ('gt_sem_seg' in sample) == (masked or not test)
    if masked or not test:
        assert np.array_equal(sample.gt_sem_seg.data.numpy(), np.stack(masks))
    assert ('ref_sem_seg' in sample) == bool(needed)
    if needed:
        assert np.array_equal(sample.ref_sem_seg.data.numpy()[0], given)
