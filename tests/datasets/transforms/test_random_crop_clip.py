import random

import numpy as np
import pytest

from mmplugins.registry import TRANSFORMS
from tests.datasets.videos import image_of, square


def build(**settings):
    return TRANSFORMS.build(dict(type='mmplugins.RandomCropClip', **settings))


def clip(*masks):
    return dict(img=[image_of(mask) for mask in masks], gt_seg_map=list(masks))


def test_all_frames_are_cropped_at_one_place():
    """Images are numbered pixel by pixel: the place can be read from the first one, and is that of all and the masks.

    The crop is 10 x 20 of 24 x 32, and holds more than 15 pixels of the 8 x 8 object.
    """
    index = np.arange(24 * 32).reshape(24, 32)
    numbered = np.stack([index // 32, index % 32, index * 0], axis=2).astype(np.uint8)
    masks = [square(3, 8, 12), square(3, 10, 4)]
    random.seed(0)
    places = set()
    for _ in range(100):
        results = build(crop_size=(10, 20), min_pixels=15, tries=50)(
            dict(img=[numbered, numbered], gt_seg_map=list(masks))
        )
        top, left = results['img'][0][0, 0, :2]
        places.add((int(top), int(left)))
        for frame, mask, original in zip(results['img'], results['gt_seg_map'], masks, strict=True):
            assert np.array_equal(frame, numbered[top : top + 10, left : left + 20])
            assert np.array_equal(mask, (original > 0)[top : top + 10, left : left + 20])
        assert results['gt_seg_map'][0].sum() > 15
        assert results['num_objects'] == 1
        assert results['img_shape'] == (10, 20)
    assert len(places) > 30


def test_objects_of_the_first_frame_are_numbered_from_1():
    first = np.maximum(square(4, 0, 0), square(7, 10, 10))
    second = np.maximum(square(7, 0, 0), square(9, 10, 10))  # 9 comes in later: background
    results = build(crop_size=(24, 32), min_pixels=5)(clip(first, second))
    assert np.array_equal(results['gt_seg_map'][0], np.maximum(square(1, 0, 0), square(2, 10, 10)))
    assert np.array_equal(results['gt_seg_map'][1], square(2, 0, 0))
    assert results['num_objects'] == 2


def test_small_objects_do_not_count():
    masks = np.maximum(square(1, 0, 0, side=3), square(2, 10, 10))  # 9 pixels
    assert build(crop_size=(24, 32), min_pixels=9)(clip(masks))['num_objects'] == 1
    assert build(crop_size=(24, 32), min_pixels=8)(clip(masks))['num_objects'] == 2


def test_at_most_max_objects():
    mask = np.zeros((24, 32), dtype=np.uint8)
    for number in range(1, 8):
        mask[:, 4 * number : 4 * number + 3] = number
    results = build(crop_size=(24, 32), min_pixels=5)(clip(mask))
    assert results['num_objects'] == 5
    assert set(np.unique(results['gt_seg_map'][0])) == set(range(6))


def test_without_an_object_there_is_no_clip():
    assert build(crop_size=(24, 32))(clip(square(1, 0, 0, side=4))) is None


def test_small_frames_are_padded_at_random_places():
    """9 rows and 3 columns are added, in the same place in all frames; the colour is BGR."""
    random.seed(0)
    places = set()
    for _ in range(200):
        results = build(crop_size=(33, 35), min_pixels=5, pad_value=(1, 2, 3))(clip(square(2, 4, 4), square(2, 5, 5)))
        mask = results['gt_seg_map'][0]
        assert mask.shape == (33, 35)
        top, left = np.argwhere(mask)[0] - 4
        places.add((int(top), int(left)))
        for frame, original in zip(results['img'], (square(2, 4, 4), square(2, 5, 5)), strict=True):
            expected = np.tile(np.array([1, 2, 3], dtype=np.uint8), (33, 35, 1))
            expected[top : top + 24, left : left + 32] = image_of(original)
            assert np.array_equal(frame, expected)
        assert np.argwhere(results['gt_seg_map'][1])[0].tolist() == [top + 5, left + 5]
    assert len(places) == 10 * 4


def test_padding_in_one_direction_only():
    results = build(crop_size=(12, 64), min_pixels=5, tries=50)(clip(square(1, 8, 8)))
    assert results['img'][0].shape == (12, 64, 3)
    assert (results['gt_seg_map'][0] == 1).sum() > 5


def test_wrong_size():
    with pytest.raises(ValueError, match=r'crop_size is \(height, width\), and it, tries and max_objects'):
        build(crop_size=(0, 4))
