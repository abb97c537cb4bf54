import random

import cv2
import numpy as np
import pytest
from PIL import Image

from mmplugins.datasets.transforms.clip_masks import has_smooth_edges, number_objects, objects_of, read_object_mask
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


def circle(line=cv2.LINE_8):
    mask = np.zeros((60, 80), np.uint8)
    cv2.circle(mask, (40, 30), 20, 255, -1, line)
    return mask


def smooth_masks():
    """Binary masks as they were drawn, blurred, resized or stored as JPEG, and with one pixel of a rim."""
    one = circle()
    one[9, 40] = 3
    yield 'one pixel', one
    yield 'drawn', circle(cv2.LINE_AA)
    yield 'blurred', cv2.GaussianBlur(circle(), (9, 9), 0)
    yield 'resized', cv2.resize(circle(), (203, 151), interpolation=cv2.INTER_CUBIC)
    yield 'jpeg', cv2.imdecode(cv2.imencode('.jpg', circle(), [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)


def soft_object(sigma, peak=255, size=(150, 200)):
    rows, columns = np.mgrid[: size[0], : size[1]]
    inside = (np.hypot(rows - 75, columns - 100) < 45).astype(np.float32)
    blurred = cv2.GaussianBlur(inside, (0, 0), sigma)
    return np.round(peak * blurred / blurred.max()).astype(np.uint8)


@pytest.mark.parametrize(('sigma', 'peak'), [(1, 250), (2, 200), (12, 255), (12, 250), (20, 230)])
def test_dim_objects_and_wide_blurs_are_told(tmp_path, sigma, peak):
    mask = soft_object(sigma, peak)
    assert has_smooth_edges(mask)
    Image.fromarray(mask).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=rf'a\.png is grey with smooth edges: the object is {peak}'):
        read_object_mask(str(tmp_path / 'a.png'))


def numbered_masks():
    """Masks of object numbers, 255 not valid."""
    yield (
        'a small object beside much that is not valid',
        np.where(np.pad(np.ones((3, 3)), ((50, 7), (2, 75))), 7, circle()),
    )
    yield 'objects above 127', np.where(circle(), 255, np.repeat(np.arange(100, 160)[:, None] // 20 * 20, 80, 1))
    blocks = np.kron(np.arange(1, 49).reshape(6, 8), np.ones((10, 10)))
    yield 'many objects', np.where(circle(), 255, blocks)
    yield (
        'two objects with a gap, one of them small',
        np.where(circle(), 200, np.pad([[3, 3], [3, 3]], ((50, 8), (2, 76)))),
    )
    yield 'no object', circle()
    yield 'background', circle() * 0
    yield 'rim that is not valid', np.where(cv2.Canny(circle(), 50, 100) > 0, 255, circle() // 255)


@pytest.mark.parametrize('name', ['one pixel', 'drawn', 'blurred', 'resized', 'jpeg'])
def test_smooth_edges_are_no_objects(tmp_path, name):
    mask = dict(smooth_masks())[name]
    assert has_smooth_edges(mask)
    path = str(tmp_path / 'a.png')
    Image.fromarray(mask).save(path)
    with pytest.raises(ValueError, match=r'a\.png is grey with smooth edges.*set single_object=True'):
        read_object_mask(path)
    assert np.array_equal(read_object_mask(path, 0), mask > 127)


@pytest.mark.parametrize('name', [name for name, _ in numbered_masks()])
def test_object_numbers_are_never_smooth_edges(tmp_path, name):
    mask = dict(numbered_masks())[name].astype(np.uint8)
    assert not has_smooth_edges(mask)
    path = str(tmp_path / 'a.png')
    Image.fromarray(mask).save(path)
    assert np.array_equal(read_object_mask(path), mask)
    assert np.array_equal(read_object_mask(path, 0), mask > 0)


def test_a_palette_of_colours_says_that_values_are_objects(tmp_path):
    mask = dict(smooth_masks())['drawn']
    save_mask(tmp_path / 'a.png', mask)
    assert np.array_equal(read_object_mask(str(tmp_path / 'a.png')), mask)
    image = Image.fromarray(mask)
    image.putpalette(np.repeat(np.arange(256), 3).tolist())  # of greys
    image.save(tmp_path / 'grey.png')
    with pytest.raises(ValueError, match='smooth edges'):
        read_object_mask(str(tmp_path / 'grey.png'))


def test_a_jpeg_has_no_object_numbers(tmp_path):
    Image.fromarray(np.full((8, 8), 2, np.uint8)).save(tmp_path / 'a.jpg')
    with pytest.raises(ValueError, match=r'a\.jpg is a JPEG, whose values are not exact'):
        read_object_mask(str(tmp_path / 'a.jpg'))
