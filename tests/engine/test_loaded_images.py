"""What an image loses by loading: compared with what mmcv's loader gives."""

from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import tifffile
from mmcv.transforms import LoadImageFromFile, RandomApply, RandomChoice
from PIL import Image

from mmplugins.engine import loaded_images
from mmplugins.engine.loaded_images import LOOKED_AT, loads_eight_bits, lost_by_loading, tell_losses

SEEN = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
DEEP = SEEN.astype(np.uint16) * 257 + 90
ALPHA = 'an alpha channel, which loaders do not keep: transparent pixels get a colour that you do not see'


def with_alpha(alpha: int) -> np.ndarray:
    return np.dstack([SEEN, np.full((2, 2), alpha, np.uint8)])


@pytest.mark.parametrize(
    ('values', 'loss'),
    [
        (SEEN, ''),
        (SEEN[..., 0], ''),
        (with_alpha(255), ''),
        (with_alpha(254), ALPHA),
        (DEEP[..., 0], 'more than 8 bits (I;16), of which loaders keep 8'),
        (DEEP, 'more than 8 bits (RGB;16B), of which loaders keep 8'),
        (np.dstack([DEEP, DEEP[..., :1]]), 'more than 8 bits (RGBA;16B), of which loaders keep 8'),
    ],
    ids=['colours', 'grey', 'opaque', 'transparent', 'deep grey', 'deep colours', 'deep transparent'],
)
def test_what_is_lost(tmp_path, values, loss):
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, values)
    assert lost_by_loading(path) == loss
    loaded = mmcv.imread(path)
    assert loaded.dtype == np.uint8
    assert loaded.shape == (2, 2, 3)  # whatever it was


@pytest.mark.parametrize(('largest', 'loss'), [(255, ''), (1023, 'values up to 1023'), (65535, 'values up to 65535')])
def test_portable_pixmaps(tmp_path, largest, loss):
    path = tmp_path / 'image.ppm'
    values = (DEEP % largest).astype('>u2' if largest > 255 else 'u1')
    path.write_bytes(f'P6\n2 2\n{largest}\n'.encode() + values.tobytes())
    assert lost_by_loading(str(path)) == (f'more than 8 bits ({loss}), of which loaders keep 8' if loss else '')
    assert mmcv.imread(path).dtype == np.uint8


@pytest.mark.parametrize(('values', 'loss'), [(SEEN, ''), (DEEP, '16 bits')])
def test_tiff_with_a_plane_for_each_colour(tmp_path, values, loss):
    path = str(tmp_path / 'image.tif')
    tifffile.imwrite(path, values.transpose(2, 0, 1), photometric='rgb', planarconfig='separate')
    assert lost_by_loading(path) == (f'more than 8 bits ({loss}), of which loaders keep 8' if loss else '')
    assert mmcv.imread(path).dtype == np.uint8


@pytest.mark.parametrize('clear', [True, False])
def test_a_palette_with_a_transparent_colour(tmp_path, clear):
    """cv2 gives that colour as if it were opaque."""
    path = str(tmp_path / 'image.png')
    image = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8))
    image.putpalette([9, 8, 7, 90, 80, 70, 50, 60, 40])
    image.save(path, **(dict(transparency=1) if clear else {}))
    assert lost_by_loading(path) == (ALPHA if clear else '')
    assert mmcv.imread(path)[0].tolist() == [[7, 8, 9], [70, 80, 90]]


@pytest.mark.parametrize('name', ['gone.png', 'text.png', 'palette.bmp', 'tone.jpg'])
def test_files_that_lose_nothing_or_are_no_images(tmp_path, name):
    path = tmp_path / name
    if name == 'text.png':
        path.write_text('no image')
    elif name != 'gone.png':
        Image.fromarray(SEEN).convert('P' if name == 'palette.bmp' else 'L').save(path)
    assert lost_by_loading(str(path)) == ''


def test_an_image_that_pillow_does_not_open_for_its_size(tmp_path, monkeypatch):
    path = tmp_path / 'large.png'
    Image.fromarray(DEEP[..., 0]).save(path)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert lost_by_loading(str(path)) == ''


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [({}, True), (dict(color_type='unchanged'), False), (dict(imdecode_backend='tifffile'), False)],
)
def test_loaders(settings, expected):
    class Loader(LoadImageFromFile):
        """A subclass."""

    assert loads_eight_bits([Loader(**settings)]) is expected
    assert not loads_eight_bits([object()])


def test_loaders_within_transforms():
    loader = LoadImageFromFile()
    assert loads_eight_bits([RandomApply([loader])])
    assert loads_eight_bits([RandomChoice([[LoadImageFromFile(color_type='unchanged')], [loader]])])
    assert not loads_eight_bits([RandomApply([LoadImageFromFile(color_type='unchanged')])])
    assert not loads_eight_bits(())


def test_how_many_lose_what(tmp_path):
    paths = []
    for number, values in enumerate((SEEN, with_alpha(9), with_alpha(8), DEEP, with_alpha(255))):
        paths.append(str(Path(tmp_path, f'{number}.png')))
        cv2.imwrite(paths[-1], values)
    assert sorted(tell_losses(paths)) == [
        f'1 of 5 images have more than 8 bits (RGB;16B), of which loaders keep 8, such as {paths[3]}',
        f'2 of 5 images have {ALPHA}, such as {paths[1]}',
    ]
    assert tell_losses([paths[0], paths[4]]) == []
    assert tell_losses([]) == []


def test_so_many_files_are_looked_at_as_the_time_reaches(tmp_path, monkeypatch):
    """At least one; of many files some of each part of the list."""
    clear, plain = (str(tmp_path / f'{name}.png') for name in 'ab')
    cv2.imwrite(clear, with_alpha(0))
    cv2.imwrite(plain, SEEN)
    assert tell_losses([plain] * 3000 + [clear] * 1000) == [f'500 of {LOOKED_AT} images have {ALPHA}, such as {clear}']
    monkeypatch.setattr(loaded_images, 'SECONDS', 0)
    assert tell_losses([clear] * 9) == [f'1 of 1 images have {ALPHA}, such as {clear}']
