import random

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from mmplugins.registry import TRANSFORMS

NAMES = ('brightness', 'contrast', 'saturation', 'hue')
ENHANCERS = dict(brightness=ImageEnhance.Brightness, contrast=ImageEnhance.Contrast, saturation=ImageEnhance.Color)


def build(**settings):
    return TRANSFORMS.build(dict(type='mmplugins.ColorJitter', **settings))


@pytest.fixture
def bgr():
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def to_pil(bgr):
    return Image.fromarray(bgr[..., ::-1].copy())


def to_bgr(image):
    return np.asarray(image)[..., ::-1]


@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation'])
@pytest.mark.parametrize('factor', [0.0, 0.9, 1.07, 2.0])
def test_one_property_is_pillows(bgr, name, factor):
    result = build(**{name: (factor, factor)})(dict(img=bgr.copy()))['img']
    np.testing.assert_array_equal(result, to_bgr(ENHANCERS[name](to_pil(bgr)).enhance(factor)))
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous


def test_values_by_hand():
    """Contrast halves the distance to the mean grey, saturation to the pixel's own, brightness to black.

    The image is RGB (200, 100, 0) and (0, 0, 0). Its greys, L = (299 R + 587 G + 114 B) / 1000, are 118.5 -> 119 or
    118 (Pillow works in fixed point) and 0; their mean 59 is rounded half up.
    """
    bgr = np.array([[[0, 100, 200], [0, 0, 0]]], dtype=np.uint8)
    half = {name: build(**{name: (0.5, 0.5)})(dict(img=bgr))['img'].tolist() for name in NAMES[:3]}
    assert half['brightness'] == [[[0, 50, 100], [0, 0, 0]]]
    grey = to_pil(bgr).convert('L').getpixel((0, 0))
    assert grey in (118, 119)
    mean = int(grey / 2 + 0.5)
    assert half['contrast'] == [[[mean // 2, (100 + mean) // 2, (200 + mean) // 2], [mean // 2] * 3]]
    assert half['saturation'] == [[[grey // 2, (100 + grey) // 2, (200 + grey) // 2], [0, 0, 0]]]


@pytest.mark.parametrize(('shift', 'expected'), [(1 / 3, (0, 255, 0)), (-1 / 3, (0, 0, 255)), (0.5, (0, 255, 255))])
def test_hue_turns_the_circle(shift, expected):
    """Red becomes green, blue or cyan; 255 steps to a turn of 256 leave an error of a few levels."""
    red = np.full((2, 3, 3), (0, 0, 255), dtype=np.uint8)
    result = build(hue=(shift, shift))(dict(img=red))['img']
    np.testing.assert_allclose(result, np.full((2, 3, 3), expected[::-1]), atol=6)


@pytest.mark.parametrize('shift', [0.1, -0.1, 0.004, -0.003])
def test_hue_adds_255_times_the_shift_rounded_towards_zero(bgr, shift):
    hue, saturation, value = to_pil(bgr).convert('HSV').split()
    turned = (np.asarray(hue).astype(int) + int(shift * 255)) % 256
    expected = Image.merge('HSV', (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert('RGB')
    result = build(hue=(shift, shift))(dict(img=bgr))['img']
    np.testing.assert_array_equal(result, to_bgr(expected))


def test_draws_every_order_and_the_whole_range():
    jitter = build(brightness=0.1, contrast=0.2, saturation=(0.5, 3.0), hue=0.1)
    assert jitter.ranges == dict(brightness=(0.9, 1.1), contrast=(0.8, 1.2), saturation=(0.5, 3.0), hue=(-0.1, 0.1))
    random.seed(0)
    draws = [jitter._draw() for _ in range(2000)]
    assert len({tuple(name for name, _ in draw) for draw in draws}) == 24
    for name, (low, high) in jitter.ranges.items():
        factors = np.array([dict(draw)[name] for draw in draws])
        assert low <= factors.min() < low + 0.01 * (high - low)
        assert high >= factors.max() > high - 0.01 * (high - low)
        assert abs(factors.mean() - (low + high) / 2) < 0.03 * (high - low)


def test_steps_follow_the_drawn_order(bgr):
    jitter = build(brightness=0.4, contrast=0.4, saturation=0.4)
    random.seed(1)
    expected = to_pil(bgr)
    for name, factor in jitter._draw():
        expected = ENHANCERS[name](expected).enhance(factor)
    random.seed(1)
    np.testing.assert_array_equal(jitter(dict(img=bgr))['img'], to_bgr(expected))


def test_settings_at_zero_change_nothing_and_draw_nothing(bgr):
    jitter = build()
    state = random.getstate()
    np.testing.assert_array_equal(jitter(dict(img=bgr.copy()))['img'], bgr)
    assert random.getstate() == state


def test_number_beyond_one_is_cut_at_black():
    assert build(brightness=1.5).ranges['brightness'] == (0.0, 2.5)


@pytest.mark.parametrize(
    'settings', [dict(brightness=-0.1), dict(contrast=(1.2, 0.8)), dict(hue=0.6), dict(saturation=(-1, 1))]
)
def test_bad_ranges_raise(settings):
    with pytest.raises(ValueError, match=r'which must rise and lie within .*give a number that is not negative'):
        build(**settings)


@pytest.mark.parametrize('img', [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8)])
def test_bad_images_raise(img):
    with pytest.raises(TypeError, match=r'img must be uint8 of shape \(H, W, 3\), got .*without to_float32'):
        build(brightness=0.1)(dict(img=img))
