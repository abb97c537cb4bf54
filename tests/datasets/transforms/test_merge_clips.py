import random

import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS as ROOT

from mmplugins.registry import TRANSFORMS
from tests.datasets.videos import image_of, square


@ROOT.register_module(force=True)
class TakeClip(BaseTransform):
    """Stands for what loads a clip: the entry of the data set is one."""

    def transform(self, results):
        return results['clip']


class Clips(list):
    def get_data_info(self, index):
        return dict(clip=None if self[index] is None else dict(self[index]))


def clip(count, *masks, index=0, dataset=None):
    results = dict(img=[image_of(mask) for mask in masks], gt_seg_map=list(masks), num_objects=count)
    return results if dataset is None else dict(results, dataset=dataset, sample_idx=index)


def build(**settings):
    return TRANSFORMS.build(
        dict(type='mmplugins.MergeClips', pre_transform=[dict(type='TakeClip')], **{'min_pixels': 5, **settings})
    )


SECOND = [np.maximum(square(1, 0, 0), square(2, 12, 12)), square(2, 4, 4)]


def test_numbers_by_hand():
    """The second clip's objects 1 and 2 hide the first's, and become 2 and 3."""
    dataset = Clips([None, clip(2, *SECOND)])
    first = [square(1, 4, 4), square(1, 8, 8)]
    results = build(prob=1.0)(clip(1, *first, dataset=dataset))
    assert results['num_objects'] == 3
    for frame, mask, below, above in zip(results['img'], results['gt_seg_map'], first, SECOND, strict=True):
        expected = np.where(above > 0, above + 1, below)
        assert np.array_equal(mask, expected)
        assert np.array_equal(frame, image_of(np.where(above > 0, above, below)))
        assert mask.dtype == frame.dtype == np.uint8


def test_a_hidden_object_is_no_more():
    """Of the first's object 1 a row of 8 pixels is left, of which fewer than 8 do not count; its number goes to 2."""
    first = np.maximum(square(1, 0, 0), square(2, 16, 20))
    dataset = Clips([None, clip(1, square(1, 1, 0), square(1, 1, 0))])
    results = build(prob=1.0, min_pixels=8)(clip(2, first, first, dataset=dataset))
    assert results['num_objects'] == 2
    expected = np.maximum(square(2, 1, 0), square(1, 16, 20))
    assert np.array_equal(results['gt_seg_map'][0], expected)
    assert np.array_equal(results['gt_seg_map'][1], expected)


def test_at_most_ten():
    mask = np.zeros((24, 32), dtype=np.uint8)
    for number in range(1, 8):
        mask[:10, 4 * number - 4 : 4 * number] = number
    below = mask[::-1].copy()
    dataset = Clips([None, clip(7, mask)])
    results = build(prob=1.0)(clip(7, below, dataset=dataset))
    assert results['num_objects'] == 10
    assert set(np.unique(results['gt_seg_map'][0])) == set(range(11))


def test_ignored_pixels_are_not_pasted():
    above = np.maximum(square(1, 0, 0), square(255, 12, 12))
    below = square(255, 4, 12)
    results = build(prob=1.0)(clip(1, np.maximum(below, square(1, 12, 20)), dataset=Clips([None, clip(1, above)])))
    mask = results['gt_seg_map'][0]
    assert np.array_equal(mask == 255, below == 255)
    assert np.array_equal(mask == 2, square(1, 0, 0) == 1)


def test_any_other_entry_but_not_the_same():
    dataset = Clips([clip(1, square(1, 0, 4 * index)) for index in range(4)])
    random.seed(0)
    merge, found = build(prob=1.0), []
    for _ in range(100):
        mask = merge(clip(1, square(1, 16, 16), index=2, dataset=dataset))['gt_seg_map'][0]
        found.append(int(np.argwhere(mask == 2)[0][1]) // 4)
    assert set(found) == {0, 1, 3}


def test_probability():
    dataset = Clips([None, clip(1, square(1, 0, 0))])
    random.seed(0)
    merge = build(prob=0.3)
    merged = [merge(clip(1, square(1, 12, 12), dataset=dataset))['num_objects'] == 2 for _ in range(1000)]
    assert 0.25 < np.mean(merged) < 0.35


def test_nothing_to_merge():
    merge = build(prob=1.0)
    for dataset in (Clips([None]), Clips([None, None])):  # one entry; another that gives no clip
        results = merge(clip(1, square(1, 12, 12), dataset=dataset))
        assert np.array_equal(results['gt_seg_map'][0], square(1, 12, 12))


def test_other_sizes():
    dataset = Clips([None, clip(1, square(1, 0, 0, size=(8, 8)))])
    with pytest.raises(ValueError, match=r'one length and size, got \(1, 24, 32\) and \(1, 8, 8\)'):
        build(prob=1.0)(clip(1, square(1, 0, 0), dataset=dataset))
