"""Transforms of images, drawn at random, beside plain references."""

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from mmplugins.hosts import problem_with
from mmplugins.registry import TRANSFORMS
from tests.fuzz.cases import SEEDS, fuzz
from tests.fuzz.files import folder, palette_image, save

for host in ('mmdet', 'mmseg'):
    if problem_with(host):
        pytest.skip(str(problem_with(host)), allow_module_level=True)

SIZE = st.tuples(st.integers(1, 24), st.integers(1, 24))


def build(name, **settings):
    return TRANSFORMS.build(dict(type=f'mmplugins.{name}', **settings))


def grey(rgb):
    """ITU-R 601 luma of (..., 3), float64."""
    return rgb @ np.array([0.299, 0.587, 0.114])


@fuzz(
    'ColorJitter',
    seed=SEEDS,
    size=SIZE,
    name=st.sampled_from(['brightness', 'contrast', 'saturation', 'hue']),
    factor=st.floats(0, 2),
    layout=st.sampled_from(['contiguous', 'flipped', 'transposed']),
)
def test_color_jitter(seed, size, name, factor, layout):
    """Each property blends with black, the mean grey or the own grey; a hue keeps the largest and least channel."""
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    if layout == 'flipped':
        image = image[:, ::-1]
    elif layout == 'transposed':
        image = image.transpose(1, 0, 2)
    before = image.copy()
    factor = factor / 4 - 0.25 if name == 'hue' else factor
    found = build('ColorJitter', **{name: (factor, factor)})(dict(img=image))['img']
    assert np.array_equal(image, before)
    assert found.dtype == np.uint8
    exact, values = image[..., ::-1].astype(float), found[..., ::-1].astype(float)
    if name == 'hue':
        assert np.abs(values.max(-1) - exact.max(-1)).max() <= 1
        assert np.abs(values.min(-1) - exact.min(-1)).max() <= 3
        return
    other = {
        'brightness': np.zeros_like(exact),
        'contrast': np.full_like(exact, np.floor(grey(exact).round().mean() + 0.5)),
        'saturation': np.repeat(grey(exact).round()[..., None], 3, -1),
    }[name]
    expected = np.clip(other + factor * (exact - other), 0, 255)
    assert np.abs(values - expected).max() <= 1 + abs(1 - factor)  # greys round to whole levels first


@fuzz(
    'LoadBinaryMask',
    seed=SEEDS,
    size=SIZE,
    threshold=st.sampled_from([None, 0, 50, 127, 254]),
    mode=st.sampled_from(['L', '1', 'RGB', 'P', 'I;16', 'LA', 'RGBA']),
    kind=st.sampled_from(['any', 'binary', 'low']),
    grey_values=st.booleans(),
)
def test_load_binary_mask(seed, size, threshold, mode, kind, grey_values):
    generator = np.random.default_rng(seed)
    values = {'any': range(256), 'binary': (0, 255), 'low': (0, 1)}[kind]
    mask = generator.choice(np.array(values), size).astype(np.uint8)
    with folder() as path:
        if mode == 'P':  # object numbers; the colours' greys tell, or else the numbers do
            mask = generator.integers(0, 4, size).astype(np.uint8)
            name = palette_image(mask, path / 'a.png')
        elif mode == 'I;16':
            name = save(mask.astype(np.uint16) << 8, path / 'a.png')
        else:
            name = save(np.where(mask > 127, 255, 0).astype(np.uint8) if mode == '1' else mask, path / 'a.png', mode)
            mask = np.where(mask > 127, 255, 0) if mode == '1' else mask
        load = build('LoadBinaryMask', grey=grey_values, threshold=None if grey_values else threshold)
        limit = 127 if grey_values or threshold is None else threshold
        results = dict(seg_map_path=name)
        if mode == 'P':
            found = load(results)['gt_seg_map']
            assert np.array_equal(found, np.where(mask > 0, 255 if grey_values else 1, 0))
            return
        largest = int(mask.max(initial=0))
        if 0 < largest <= limit and set(np.unique(mask).tolist()) <= {0, largest}:
            with pytest.raises(ValueError, match=r'a\.png: all background, its values are 0 and'):
                load(results)
            return
        found = load(results)
    assert found['seg_fields'] == ['gt_seg_map']
    expected = mask if grey_values else mask > limit
    assert found['gt_seg_map'].dtype == np.uint8
    assert np.array_equal(found['gt_seg_map'], expected)


@fuzz(
    'SoftMask',
    seed=SEEDS,
    size=SIZE,
    dtype=st.sampled_from([torch.uint8, torch.int64, torch.float32]),
    wrong=st.booleans(),
)
def test_soft_mask(seed, size, dtype, wrong):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(seed)
    data = torch.randint(0, 256, (1, *size), generator=generator).to(dtype)
    wrong = wrong and dtype == torch.int64
    data = data - 300 if wrong else data
    sample = SegDataSample(gt_sem_seg=PixelData(data=data.clone()))
    if wrong or dtype.is_floating_point:
        with pytest.raises(ValueError, match='SoftMask takes grey values, integers from 0 to 255'):
            build('SoftMask')(dict(data_samples=sample))
        return
    found = build('SoftMask')(dict(data_samples=sample))['data_samples'].gt_sem_seg.data
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), data.double() / 255, atol=1e-7)


@fuzz(
    'ResizeShorterSide',
    seed=SEEDS,
    size=SIZE,
    scale=st.integers(1, 40),
    max_size=st.sampled_from([None, 3, 30, 50]),
    cut=st.booleans(),
    label=st.booleans(),
)
def test_resize_shorter_side(seed, size, scale, max_size, cut, label):
    labels = np.random.default_rng(seed).integers(0, 5, size).astype(np.uint8)
    results = dict(img=np.full((*size, 3), 99, np.uint8), img_shape=size)
    if label:
        results.update(gt_seg_map=labels, seg_fields=['gt_seg_map'])
    short, long = min(size), max(size)
    exact = scale / short
    if max_size is not None and long * exact > max_size:
        exact = max_size / long
    found = build('ResizeShorterSide', scale=scale, max_size=max_size, cut=cut)(results)
    new = found['img'].shape[:2]
    assert found['img_shape'] == new
    assert (found['img'] == 99).all()
    for side, one in zip(size, new, strict=True):
        assert one >= 1
        # DETR rounds the shorter side first, so that the longer one may be off by as much as the ratio of the sides
        assert abs(one - max(side * exact, 1)) <= (1 + long / short if cut else 0.5 + 1e-6) or one == 1
    if label:
        rows, columns = (np.floor(np.arange(n) * (o / n)).astype(int) for n, o in zip(new, size, strict=True))
        assert found['gt_seg_map'].shape == new
        differ = found['gt_seg_map'] != labels[np.ix_(rows, columns)]
        assert differ.mean() <= 0.2  # where a place falls on a pixel's edge float32 decides
        assert found['seg_fields'] == ['gt_seg_map']


def scene(generator, size, things, stuff):
    """A map of segments, their infos as CocoPanopticDataset gives them; some are crowds."""
    ids = np.zeros(size, np.int64)
    segments, instances = [], []
    number = int(generator.integers(0, 6))
    for segment in np.unique(generator.integers(1, 2**24, number)).tolist():
        top, left = (int(generator.integers(0, side)) for side in size)
        ids[top : top + int(generator.integers(1, 12)), left : left + int(generator.integers(1, 12))] = segment
        category = int(generator.integers(0, things + stuff))
        crowd = category < things and generator.random() < 0.3
        segments.append(dict(id=segment, category=category, is_thing=category < things and not crowd))
    for one in segments:
        if one['is_thing']:
            instances.append(dict(bbox=[0, 0, 1, 1], bbox_label=one['category'], ignore_flag=0))
    return ids, segments, instances


def colours(ids):
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)


PANOPTIC = dict(seed=SEEDS, size=SIZE, things=st.integers(1, 3), stuff=st.integers(0, 3))


@fuzz('LoadPanopticAnnotations', split=st.booleans(), tell_crowds=st.booleans(), **PANOPTIC)
def test_load_panoptic_annotations(seed, size, things, stuff, split, tell_crowds):
    generator = np.random.default_rng(seed)
    ids, segments, instances = scene(generator, size, things, stuff)
    missing = [one for one in segments if not (ids == one['id']).any()]
    load = build('LoadPanopticAnnotations', split=split, num_things_classes=things if tell_crowds else None)
    with folder() as path:
        results = dict(
            seg_map_path=save(colours(ids), path / 'a.png'),
            ori_shape=size,
            segments_info=segments,
            instances=instances,
            img_path='a.jpg',
        )
        if missing:
            with pytest.raises(ValueError, match=rf'a.png has no pixel of segment {missing[0]["id"]}'):
                load(results)
            return
        found = load(results)
    if not split:
        assert np.array_equal(found['gt_seg_map'], colours(ids))
        return
    expected = np.full(size, 255, np.uint8)
    for one in segments:
        crowd = one['category'] < things and not one['is_thing']
        if not (crowd and tell_crowds):
            expected[ids == one['id']] = one['category']
    assert np.array_equal(found['gt_seg_map'], expected)
    kept = [one for one in segments if one['is_thing']]
    assert found['gt_bboxes_labels'].tolist() == [one['category'] for one in kept]
    masks = found['gt_masks'].to_ndarray()
    assert masks.shape == (len(kept), *size)
    for mask, one in zip(masks, kept, strict=True):
        assert np.array_equal(mask, ids == one['id'])


@fuzz('SplitPanopticMap', keep_empty=st.booleans(), cut=st.booleans(), **PANOPTIC)
def test_split_panoptic_map(seed, size, things, stuff, keep_empty, cut):
    ids, segments, _ = scene(np.random.default_rng(seed), size, things, stuff)
    if cut:
        ids = ids[: size[0] // 2 + 1, size[1] // 2 :]
    found = build('SplitPanopticMap', num_things_classes=things, keep_empty=keep_empty)(
        dict(gt_seg_map=colours(ids), segments_info=segments, img_path='a.jpg')
    )
    kept = [one for one in segments if one['is_thing'] or one['category'] >= things]
    kept = [one for one in kept if keep_empty or (ids == one['id']).any()]
    assert found['gt_bboxes_labels'].tolist() == [one['category'] for one in kept]
    masks = found['gt_masks'].to_ndarray()
    assert masks.shape == (len(kept), *ids.shape)
    for mask, one in zip(masks, kept, strict=True):
        assert np.array_equal(mask, ids == one['id'])
    assert np.array_equal(found['gt_seg_map'], np.where(masks.any(0) if len(masks) else np.zeros(ids.shape), 0, 255))


@fuzz(
    'RasterizeInstances',
    seed=SEEDS,
    size=SIZE,
    number=st.integers(0, 3),
    flip=st.booleans(),
    factor=st.sampled_from([1, 2, 3]),
    shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    kind=st.sampled_from(['polygon', 'mask', 'both', 'broken']),
)
def test_rasterize_instances(seed, size, number, flip, factor, shift, kind):
    """Rectangles that are enlarged, shifted and flipped stay rectangles; one that leaves the image is dropped."""
    from pycocotools import mask as coco

    generator = np.random.default_rng(seed)
    height, width = size[0] * factor, size[1] * factor
    matrix = np.diag([factor, factor, 1.0])
    matrix[:2, 2] = shift
    if flip:
        matrix = np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1.0]]) @ matrix
    instances, expected = [], []
    for index in range(number):
        top, left = (int(generator.integers(0, side)) for side in size)
        bottom, right = top + int(generator.integers(1, 12)), left + int(generator.integers(1, 12))
        bottom, right = min(bottom, size[0]), min(right, size[1])
        full = np.zeros(size, np.uint8)
        full[top:bottom, left:right] = 1
        outline = [[left, top, right, top, right, bottom, left, bottom]]
        if kind == 'mask' or (kind == 'both' and index % 2):
            outline = coco.encode(np.asfortranarray(full))
        elif kind == 'broken':
            outline = [[1, 2, 3]]
        instances.append(dict(bbox_label=index, ignore_flag=index % 2, mask=outline))
        moved = np.zeros((height, width), np.uint8)
        big = full.repeat(factor, 0).repeat(factor, 1)
        for row, column in zip(*big.nonzero(), strict=True):
            y, x = row + shift[1], column + shift[0]
            x = width - 1 - x if flip else x
            if 0 <= y < height and 0 <= x < width:
                moved[y, x] = 1
        if moved.any() and kind != 'broken':
            expected.append((index, moved))
    results = dict(
        instances=instances, ori_shape=size, img_shape=(height, width), homography_matrix=matrix.astype(np.float32)
    )
    found = build('RasterizeInstances')(results)
    assert found['gt_bboxes_labels'].tolist() == [index for index, _ in expected]
    assert found['gt_ignore_flags'].tolist() == [bool(index % 2) for index, _ in expected]
    masks = found['gt_masks'].to_ndarray()
    assert masks.shape == (len(expected), height, width)
    for mask, (_, moved) in zip(masks, expected, strict=True):
        assert np.array_equal(mask, moved)


def test_images_of_other_dtypes_are_refused():
    with pytest.raises(TypeError, match='img must be uint8'):
        build('ColorJitter', hue=0.1)(dict(img=np.zeros((2, 2, 3), np.float32)))
