"""What an image loses by loading: compared with what mmcv's loader gives."""

import logging
import warnings
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import MMLogger
from PIL import Image

from mmplugins.engine.loaded_images import DECODED, LossTeller, loads_eight_bits, lost_by_loading

SEEN = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
DEEP = SEEN.astype(np.uint16) * 257 + 90
ALPHA = ': transparent pixels take the colour beneath'


def with_alpha(alpha: int) -> np.ndarray:
    return np.dstack([SEEN, np.full((2, 2), alpha, np.uint8)])


@pytest.mark.parametrize(
    ('values', 'loss'),
    [
        (SEEN, ''),
        (SEEN[..., 0], ''),
        (with_alpha(255), ''),
        (with_alpha(254), f'an alpha channel, which loaders drop{ALPHA}'),
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


@pytest.mark.parametrize('clear', [True, False])
def test_a_palette_with_a_transparent_colour(tmp_path, clear):
    """cv2 gives that colour as if it were opaque."""
    path = str(tmp_path / 'image.png')
    image = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8))
    image.putpalette([9, 8, 7, 90, 80, 70, 50, 60, 40])
    image.save(path, **(dict(transparency=1) if clear else {}))
    assert lost_by_loading(path) == (f'an alpha channel, which loaders drop{ALPHA}' if clear else '')
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
    LossTeller('set').look(str(path))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 3)  # it opens with a warning, which is Pillow's for who loads it
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert lost_by_loading(str(path)) == 'more than 8 bits (I;16), of which loaders keep 8'


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [({}, True), (dict(color_type='unchanged'), False), (dict(imdecode_backend='tifffile'), False)],
)
def test_loaders(settings, expected):
    class Loader(LoadImageFromFile):
        """A subclass."""

    assert loads_eight_bits([Loader(**settings)]) is expected
    assert not loads_eight_bits([object()])


@pytest.fixture
def lines(caplog) -> list[str]:
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    logger.removeHandler(caplog.handler)


def test_each_loss_is_told_once(tmp_path, lines):
    paths = []
    for number, values in enumerate((SEEN, with_alpha(9), with_alpha(8), DEEP, DEEP[..., 0])):
        paths.append(str(Path(tmp_path, f'{number}.png')))
        cv2.imwrite(paths[-1], values)
    teller = LossTeller('train_dataloader.dataset')
    for path in [*paths, *paths]:
        teller.look(path)
    remedy = '; save them as RGB images of 8 bits, stretched and blended as the model is to see them'
    start = 'data: train_dataloader.dataset: images have '
    assert lines() == [
        f'{start}an alpha channel, which loaders drop{ALPHA}, such as {paths[1]}{remedy}',
        f'{start}more than 8 bits (RGB;16B), of which loaders keep 8, such as {paths[3]}{remedy}',
    ]


def test_not_every_opaque_image_is_decoded(tmp_path, lines):
    """A set of opaque images with an alpha channel; others, however many, do not count."""
    opaque, clear, plain = (str(tmp_path / f'{name}.png') for name in 'abc')
    cv2.imwrite(opaque, with_alpha(255))
    cv2.imwrite(clear, with_alpha(0))
    cv2.imwrite(plain, SEEN)
    teller = LossTeller('set')
    for path in [opaque] * (DECODED - 1) + [plain] * (2 * DECODED) + [opaque, clear]:
        teller.look(path)
    assert lines() == []
    LossTeller('set').look(clear)
    assert len(lines()) == 1
