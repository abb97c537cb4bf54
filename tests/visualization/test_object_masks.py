import numpy as np
import pytest
from PIL import Image

from mmplugins.visualization import object_palette, paint_objects, write_index_image


def mask_of_square():
    mask = np.zeros((20, 24), np.uint8)
    mask[4:14, 6:16] = 2
    return mask


def test_palette():
    """VOC's: aeroplane, sheep (17) and the void."""
    palette = object_palette()
    assert palette.shape == (256, 3)
    assert [palette[i].tolist() for i in (1, 17, 20, 255)] == [[128, 0, 0], [128, 64, 0], [0, 64, 128], [224, 224, 192]]
    assert len({tuple(color) for color in palette}) == 256


def test_index_image(tmp_path):
    path = tmp_path / 'a' / 'b' / '00000.png'
    write_index_image(path, mask_of_square())
    image = Image.open(path)
    assert image.mode == 'P'
    assert np.array_equal(np.array(image), mask_of_square())
    assert np.array(image.convert('RGB'))[5, 7].tolist() == [0, 128, 0]


def test_wrong_index_image(tmp_path):
    with pytest.raises(ValueError, match=r'a mask \(H, W\), uint8, got \(20, 24\), int64'):
        write_index_image(tmp_path / 'a.png', mask_of_square().astype(np.int64))


def test_painted_frame():
    """A contour of two pixels, half of the colour inside, nothing outside; BGR."""
    image = np.full((20, 24, 3), 100, np.uint8)
    painted = paint_objects(image, mask_of_square() - mask_of_square() // 2)  # object 1, dark red
    inside = mask_of_square() > 0
    core = np.zeros_like(inside)
    core[6:12, 8:14] = True
    assert (painted[core] == [50, 50, 114]).all()
    assert (painted[inside & ~core] == [0, 0, 128]).all()
    assert (painted[~inside] == 100).all()
    assert (image == 100).all()


def test_opacity():
    image = np.full((20, 24, 3), 100, np.uint8)
    assert (paint_objects(image, mask_of_square(), opacity=0)[8, 10] == 100).all()


def test_wrong_size():
    with pytest.raises(ValueError, match=r'must be of the size of the image, \(20, 25\), got \(20, 24\)'):
        paint_objects(np.zeros((20, 25, 3), np.uint8), mask_of_square())
