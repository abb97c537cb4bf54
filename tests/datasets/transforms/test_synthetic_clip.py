import math
import random

import mmcv
import numpy as np
import pytest
from PIL import Image

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


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_images_and_masks_move_alike(backend):
    """The image shows the object as 200 on 0. Bilinear and nearest differ by less than half the step off its rim.

    So pixels above 100 are those of the mask, but for ties, which are fewer than one in a hundred.
    """
    mask = square(1, 20, 30, side=40, size=(90, 120))
    data = dict(img=[np.repeat(mask[..., None] * 200, 3, axis=2)], gt_seg_map=[mask])
    random.seed(0)
    centres = []
    for _ in range(5):
        results = build(size=(90, 120), pad_value=(0, 0, 0), interpolation='nearest', backend=backend)(dict(data))
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


def smooth_image(height=60, width=80):
    """Waves of some thirty pixels, which every interpolation of second order follows to a grey level or two."""
    rows, columns = np.mgrid[:height, :width]
    waves = [110 + 60 * np.sin(rows / 5 + k) * np.cos(columns / 6 - k) for k in range(3)]
    return np.stack(waves, 2).round().astype(np.uint8)


def test_both_backends_move_to_one_place():
    """Half a pixel of offset between them would make 6 grey levels of these waves; their filters make one or two."""
    matrix = affine_matrix(39.5, 29.5, 0.2, 0.1, 1.05, 3.3, -2.6)
    image = smooth_image()
    cv2, pillow = (
        build(size=(60, 80), interpolation='bicubic', backend=backend)._warp(image, matrix, 'bicubic', (104, 116, 124))
        for backend in ('cv2', 'pillow')
    )
    inside = (slice(12, -12), slice(14, -14))
    difference = np.abs(cv2[inside].astype(int) - pillow[inside])
    assert difference.max() <= 3
    assert difference.mean() < 0.6
    assert tuple(pillow[0, 0]) == (104, 116, 124)  # outside, not blended


def test_motion_is_bicubic():
    """A shift by half a pixel along a row: Pillow's cubic weighs four neighbours by -1/8, 5/8, 5/8, -1/8."""
    row = np.array([10, 20, 90, 30, 200, 100, 40, 60], dtype=np.uint8)
    image = np.repeat(np.repeat(row[None, :, None], 5, axis=0), 3, axis=2)
    transform = build(size=(5, 8), interpolation='bicubic', backend='pillow')
    moved = transform._warp(image, affine_matrix(3.5, 2, 0, 0, 1, 0.5, 0), 'bicubic', (0, 0, 0))[2, 2:7, 0]
    taps = np.array([-1, 5, 5, -1]) / 8
    expected = [taps @ row[i : i + 4] for i in range(5)]
    np.testing.assert_allclose(moved, np.clip(expected, 0, 255), atol=1)


def test_first_frame_is_the_released_crop():
    """Pillow's crop and bicubic resize of the file, which smooths where it shrinks."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    mask = square(1, 10, 10, side=30, size=(60, 80))
    settings = {**STILL, 'crop_area': (0.5, 0.5), 'interpolation': 'bicubic', 'backend': 'pillow'}
    transform = build(size=(15, 20), length=1, **settings)
    random.seed(3)
    frame = transform(dict(img=[image], gt_seg_map=[mask]))['img'][0]
    random.seed(3)
    rows, columns = transform._window(60, 80)
    expected = Image.fromarray(image[rows, columns]).resize((20, 15), Image.Resampling.BICUBIC)
    assert np.array_equal(frame, np.asarray(expected))


def test_every_frame_has_a_jitter_of_its_own():
    """Of a grey image, brightness alone: each frame is one grey, and no two are alike."""
    mask = square(1, 4, 4)
    data = dict(img=[np.full((24, 32, 3), 100, dtype=np.uint8)], gt_seg_map=[mask])
    random.seed(0)
    frames = build(size=(24, 32), color_jitter=dict(brightness=0.4), **STILL)(data)['img']
    greys = [set(frame.ravel().tolist()) for frame in frames]
    assert all(len(grey) == 1 for grey in greys)
    assert len({min(grey) for grey in greys}) == 5
    assert all(60 <= min(grey) <= 140 for grey in greys)


@pytest.mark.parametrize('wrong', [dict(backend='torch'), dict(backend='pillow', interpolation='area')])
def test_wrong_backend(wrong):
    with pytest.raises(ValueError, match="backend and interpolation are 'cv2' with one of"):
        build(size=(24, 32), **wrong)


def test_wrong_size():
    with pytest.raises(ValueError, match=r'size is \(height, width\)'):
        build(size=(24,))
