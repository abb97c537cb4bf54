import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from mmplugins.hosts import problem_with
from mmplugins.registry import TRANSFORMS

if problem := problem_with('mmdet'):
    pytest.skip(f'mmdet is needed: {problem}', allow_module_level=True)

from pycocotools import mask as coco

from mmplugins.datasets.transforms.rasterize_instances import draw

HEIGHT, WIDTH = 60, 80


def box(left, top, right, bottom):
    return [float(value) for value in (left, top, right, top, right, bottom, left, bottom)]


def filled(left, top, right, bottom, size=(HEIGHT, WIDTH)):
    mask = np.zeros(size, np.uint8)
    mask[max(top, 0) : bottom, max(left, 0) : right] = 1
    return mask


def instance(mask, label=0, ignore_flag=0):
    return dict(bbox=[0.0, 0.0, 1.0, 1.0], bbox_label=label, ignore_flag=ignore_flag, mask=mask)


def run_length(mask, compressed):
    encoded = coco.encode(np.asfortranarray(mask))
    if compressed:
        return dict(size=encoded['size'], counts=encoded['counts'].decode())
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    return dict(size=list(mask.shape), counts=counts if flat[0] == 0 else [0, *counts])


@pytest.fixture
def sample(tmp_path):
    Image.new('RGB', (WIDTH, HEIGHT)).save(tmp_path / 'a.png')
    return dict(img_path=str(tmp_path / 'a.png'), instances=[])


def run(sample, *transforms):
    init_default_scope('mmdet')
    steps = [dict(type='LoadImageFromFile'), *transforms, dict(type='mmplugins.RasterizeInstances')]
    pipeline = Compose([*steps, dict(type='PackDetInputs')])
    for transform in pipeline.transforms:
        if type(transform).__name__ == 'RandomCrop':
            transform._rand_offset = lambda margin: margin  # the lower right corner
    return pipeline(sample)['data_samples']


def test_values(sample):
    """Of two polygons, of one, a crowd, and what has no valid polygon; without a transform as COCO draws them."""
    crowd = filled(50, 40, 70, 55)
    sample['instances'] = [
        instance([box(5, 5, 20, 30), box(30, 10, 40, 20)], 3),
        instance([box(60, 0, 80, 10)], 7),
        instance(run_length(crowd, False), 1, ignore_flag=1),
        instance([[1.0, 2.0, 3.0, 4.0]], 2),
        dict(bbox=[0.0, 0.0, 1.0, 1.0], bbox_label=4, ignore_flag=0),
    ]
    found = run(sample)
    assert found.gt_instances.labels.tolist() == [3, 7]
    expected = [filled(5, 5, 20, 30) | filled(30, 10, 40, 20), filled(60, 0, 80, 10)]
    assert np.array_equal(found.gt_instances.masks.masks, np.stack(expected))
    assert found.gt_instances.masks.masks.dtype == np.uint8
    assert found.ignored_instances.labels.tolist() == [1]
    assert np.array_equal(found.ignored_instances.masks.masks[0], crowd)


@pytest.mark.parametrize('compressed', [False, True])
def test_moved_as_the_image(sample, compressed):
    """Flipped, three times as large, and the lower right 150x120: x = 240 - 3x - 90, y = 3y - 60."""
    sample['instances'] = [
        instance([box(10, 25, 30, 35)]),
        instance([box(0, 0, 5, 10)]),  # outside
        instance(run_length(filled(0, 30, 12, 60), compressed), 1, ignore_flag=1),
    ]
    flip = dict(type='RandomFlip', prob=1.0)
    found = run(sample, flip, dict(type='Resize', scale=(240, 180)), dict(type='RandomCrop', crop_size=(150, 120)))
    size = (120, 150)
    assert np.array_equal(found.gt_instances.masks.masks, filled(60, 15, 120, 45, size)[None])
    assert np.array_equal(found.ignored_instances.masks.masks, filled(114, 30, 150, 120, size)[None])


def test_no_instances(sample):
    sample['instances'] = [instance([box(0, 0, 5, 5)])]
    found = run(sample, dict(type='RandomCrop', crop_size=(40, 30)))
    assert found.gt_instances.masks.masks.shape == (0, 30, 40)
    assert found.gt_instances.labels.shape == (0,)


def test_outlines_that_cross_the_border():
    """As a part of what is drawn on a larger image, but for single pixels: COCO's drawing rounds to fifths of them."""
    rng = np.random.default_rng(0)
    wrong = total = 0
    for _ in range(50):
        points = rng.uniform(-40, 100, (5, 2))
        matrix = np.diag([1.3, 0.7, 1.0])
        matrix[:2, 2] = -7, 11
        found = draw([points.ravel().tolist()], matrix, (HEIGHT, WIDTH), (HEIGHT, WIDTH))
        matrix[:2, 2] += 100
        large = draw([points.ravel().tolist()], matrix, (HEIGHT, WIDTH), (300, 400))
        large = large[100 : 100 + HEIGHT, 100 : 100 + WIDTH]
        wrong += int((found != large).sum())
        total += int(large.sum())
    assert total > 50000
    assert wrong < 0.006 * total


def test_other_transforms_raise(sample):
    sample.update(homography_matrix=np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]), ori_shape=(4, 4), img_shape=(4, 4))
    with pytest.raises(ValueError, match='knows flips, resizes and crops, got the matrix'):
        TRANSFORMS.build(dict(type='mmplugins.RasterizeInstances'))(sample)


def test_repr():
    assert repr(TRANSFORMS.build(dict(type='mmplugins.RasterizeInstances'))) == 'RasterizeInstances()'
