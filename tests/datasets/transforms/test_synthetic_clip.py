import math
import random

import mmcv
import numpy as np
import pytest

from mmplugins.datasets.transforms.synthetic_clip import affine_matrix
from mmplugins.registry import TRANSFORMS
from tests.datasets.videos import image_of, square

STILL = dict(
    flip_prob=0.0, degrees=0, translate=0.0, scale=(1, 1), shear=0, crop_area=(1, 1), crop_ratio=(1, 1), min_pixels=5
)


def build(**settings):
    return TRANSFORMS.build(dict(type='mmplugins.SyntheticClip', **settings))


def image(mask):
    return dict(img=[image_of(mask)], gt_seg_map=[mask])


@pytest.mark.parametrize(
    ('settings', 'point', 'expected'),
    [
        (dict(), (3, 4), (3, 4)),
        (dict(dx=2, dy=-1), (3, 4), (5, 3)),
        (dict(scale=2), (3, 4), (1, -2)),  # the centre is (5, 10)
        (dict(angle=math.pi / 2), (8, 10), (5, 13)),  # right of the centre becomes below it
        (dict(shear=math.pi / 4), (5, 13), (8, 13)),  # 3 below it: 3 to the right
        (dict(shear=math.pi / 4, scale=2, angle=math.pi / 2, dx=1), (5, 13), (5 - 6 + 1, 10 + 6)),
    ],
)
def test_matrix_by_hand(settings, point, expected):
    matrix = affine_matrix(5, 10, **{**dict(angle=0, shear=0, scale=1, dx=0, dy=0), **settings})
    np.testing.assert_allclose(matrix @ [*point, 1], expected, atol=1e-12)


def test_without_motion_frames_are_the_image():
    mask = np.maximum(square(2, 4, 4), square(6, 12, 20))
    results = build(size=(24, 32), length=3, **STILL)(image(mask))
    assert len(results['img']) == len(results['gt_seg_map']) == 3
    for frame, numbered in zip(results['img'], results['gt_seg_map'], strict=True):
        assert np.array_equal(frame, image_of(mask))
        assert np.array_equal(numbered, np.maximum(square(1, 4, 4), square(2, 12, 20)))
    assert results['num_objects'] == 2
    assert results['img_shape'] == (24, 32)


def test_flip_is_of_all_frames_but_the_first():
    mask = square(1, 4, 4)
    results = build(size=(24, 32), **{**STILL, 'flip_prob': 1.0})(image(mask))
    assert np.array_equal(results['gt_seg_map'][0], mask)
    for frame, moved in zip(results['img'][1:], results['gt_seg_map'][1:], strict=True):
        assert np.array_equal(moved, mask[:, ::-1])
        assert np.array_equal(frame, mmcv.imflip(image_of(mask)))


def test_images_and_masks_move_alike():
    """The image shows the object as 200 on 0. Bilinear and nearest differ by less than half the step off its rim.

    So pixels above 100 are those of the mask, but for ties, which are fewer than one in a hundred.
    """
    mask = square(1, 20, 30, side=40, size=(90, 120))
    data = dict(img=[np.repeat(mask[..., None] * 200, 3, axis=2)], gt_seg_map=[mask])
    random.seed(0)
    centres = []
    for _ in range(5):
        results = build(size=(90, 120), pad_value=(0, 0, 0), interpolation='nearest')(dict(data))
        assert results['num_objects'] == 1
        for frame, moved in zip(results['img'], results['gt_seg_map'], strict=True):
            assert (moved == 1).sum() > 300
            assert ((frame[..., 0] > 100) != (moved == 1)).mean() < 0.01
            centres.append(tuple(np.argwhere(moved).mean(axis=0).round()))
    assert len(set(centres)) > 20


def test_what_comes_in_is_background():
    """Of an image that is all object, pixels off it, and off its rim, have the colour of the outside."""
    mask = np.ones((24, 32), dtype=np.uint8)
    random.seed(1)
    results = build(size=(24, 32), length=8, pad_value=(7, 8, 9), **{**STILL, 'translate': 0.5})(image(mask))
    assert results['gt_seg_map'][0].all()
    outside = 0
    for frame, moved in zip(results['img'], results['gt_seg_map'], strict=True):
        near = np.pad(moved, 1, mode='edge')
        far = ~np.any([near[i : i + 24, j : j + 32] for i in range(3) for j in range(3)], axis=0)
        assert (frame[far] == (7, 8, 9)).all()
        assert (frame[moved == 1] > 9).all()
        outside += far.sum()
    assert outside > 500


def test_parts_have_the_area_and_the_shape():
    """A gradient from 0 to 1000 over the image, read at the part's corners, tells the part's sides."""
    transform = build(size=(20, 40), crop_area=(0.3, 0.5), crop_ratio=(0.5, 2.0))
    random.seed(0)
    areas, ratios = [], []
    for _ in range(200):
        rows, columns = transform._window(300, 300)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        assert 0 <= rows.start <= rows.stop <= 300
        assert 0 <= columns.start <= columns.stop <= 300
        areas.append(height * width / 300**2)
        ratios.append(width / height / 2)  # relative to 40 / 20
    assert 0.29 < min(areas) < 0.32
    assert 0.48 < max(areas) < 0.51
    assert 0.49 < min(ratios) < 0.6
    assert max(ratios) < 2.01
    whole = build(size=(20, 40), crop_area=(1, 1), crop_ratio=(1, 1))._window(300, 300)  # 424 wide does not fit
    assert whole == (slice(None), slice(None))


def test_an_image_without_objects_gives_way():
    assert build(size=(24, 32), **STILL)(image(square(0, 0, 0))) is None
    assert build(size=(24, 32), **{**STILL, 'min_pixels': 64})(image(square(1, 0, 0))) is None


def test_wrong_size():
    with pytest.raises(ValueError, match=r'size is \(height, width\)'):
        build(size=(24,))
