import random

import numpy as np
import pytest
from PIL import Image

from mmplugins.datasets.transforms.clip_masks import number_objects, objects_of, read_object_mask
from tests.datasets.videos import save_mask

VALUES = np.array([[0, 1, 2], [130, 200, 255]], dtype=np.uint8)


def test_values_are_objects_in_palette_and_grey_images(tmp_path):
    save_mask(tmp_path / 'palette.png', VALUES)
    Image.fromarray(VALUES).save(tmp_path / 'grey.png')
    for name in ('palette', 'grey'):
        mask = read_object_mask(str(tmp_path / f'{name}.png'))
        assert np.array_equal(mask, VALUES)
        assert mask.dtype == np.uint8


def test_thresholds(tmp_path):
    """The palette gives 1 the grey value 38, 2 the value 75 and all others 7; a threshold of 0 takes values."""
    save_mask(tmp_path / 'palette.png', VALUES)
    Image.fromarray(VALUES).save(tmp_path / 'grey.png')
    Image.fromarray(np.repeat(VALUES[..., None], 3, axis=2)).save(tmp_path / 'colour.png')
    Image.fromarray(VALUES > 0).save(tmp_path / 'bits.png')
    for name, threshold, expected in (
        ('palette', 0, VALUES > 0),
        ('palette', 50, VALUES == 2),
        ('grey', 0, VALUES > 0),
        ('grey', 127, VALUES > 127),
        ('colour', 127, VALUES > 127),
        ('bits', 127, VALUES > 0),
        ('bits', None, VALUES > 0),
    ):
        mask = read_object_mask(str(tmp_path / f'{name}.png'), threshold)
        assert np.array_equal(mask, expected), (name, threshold)
        assert mask.dtype == np.uint8


def test_colours_are_no_objects(tmp_path):
    Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=r'a\.png is an image of mode RGB, so its pixels are no object numbers'):
        read_object_mask(str(tmp_path / 'a.png'))


def test_numbering_by_hand():
    first = np.array([[0, 3, 3, 3], [9, 9, 7, 255]], dtype=np.uint8)
    second = np.array([[7, 9, 3, 0]], dtype=np.uint8)
    assert objects_of(first) == [3, 7, 9]
    assert objects_of(first, 1) == [3, 9]
    masks, count = number_objects([first, second], min_pixels=1, max_objects=5)
    assert count == 2
    assert masks[0].tolist() == [[0, 1, 1, 1], [2, 2, 0, 255]]
    assert masks[1].tolist() == [[0, 2, 1, 0]]


def test_of_too_many_objects_any_may_be_kept():
    mask = np.arange(13, dtype=np.uint8)[None]
    random.seed(0)
    kept = set()
    for _ in range(100):
        (numbered,), count = number_objects([mask], min_pixels=0, max_objects=10)
        assert count == 10
        assert sorted(numbered[numbered > 0]) == list(range(1, 11))
        kept.add(tuple(np.flatnonzero(numbered[0])))
    assert len(kept) > 20
    assert set().union(*kept) == set(range(1, 13))
