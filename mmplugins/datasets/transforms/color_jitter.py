"""Colour jitter as torchvision defines it for PIL images, without torchvision.

PFNet's released training jitters the resized image by 0.1 in brightness, contrast, saturation and hue. Nothing in mmcv
or mmseg does the same: mmseg's PhotoMetricDistortion adds to the brightness, works in HSV and has a fixed order.
"""

import random
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from PIL import Image, ImageEnhance

from mmplugins.registry import TRANSFORMS

# the factor that changes nothing, the smallest and the largest that make sense
FACTORS = {
    'brightness': (1.0, 0.0, float('inf')),
    'contrast': (1.0, 0.0, float('inf')),
    'saturation': (1.0, 0.0, float('inf')),
    'hue': (0.0, -0.5, 0.5),
}
ENHANCERS = {
    'brightness': ImageEnhance.Brightness,
    'contrast': ImageEnhance.Contrast,
    'saturation': ImageEnhance.Color,
}


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """Changes brightness, contrast, saturation and hue by random factors, in random order.

    The definitions are torchvision's: a factor is drawn uniformly from [max(0, 1 - x), 1 + x] (hue: a shift from
    [-x, x] of the colour circle), 1 (hue: 0) keeps the image; each step rounds to uint8. Random numbers are those of
    Python's ``random``, which mmengine seeds in every worker.

    Required Keys:

    - img (np.uint8), shape (H, W, 3), BGR

    Modified Keys:

    - img

    Args:
        brightness: Half width x of the range, or the range of the factor itself; 0 leaves the property alone.
        contrast: As brightness.
        saturation: As brightness.
        hue: Half width, at most 0.5, or the range of the shift.

    Raises:
        ValueError: A range is negative, reversed or, for hue, beyond half the circle.
    """

    def __init__(
        self,
        brightness: float | Sequence[float] = 0.0,
        contrast: float | Sequence[float] = 0.0,
        saturation: float | Sequence[float] = 0.0,
        hue: float | Sequence[float] = 0.0,
    ) -> None:
        settings = dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
        self.ranges = {name: _range(name, value) for name, value in settings.items()}

    @cache_randomness
    def _draw(self) -> list[tuple[str, float]]:
        """Draws the order of the properties and their factors."""
        names = [name for name, bounds in self.ranges.items() if bounds != FACTORS[name][:1] * 2]
        return [(name, random.uniform(*self.ranges[name])) for name in random.sample(names, len(names))]

    def transform(self, results: dict) -> dict:
        """Jitters the image of one sample."""
        img = results['img']
        if img.dtype != np.uint8 or img.ndim != 3 or img.shape[2] != 3:
            raise TypeError(
                f'img must be uint8 of shape (H, W, 3), got {img.dtype} of shape {img.shape}; '
                'load it in colour without to_float32, and jitter before any normalisation'
            )
        image = Image.fromarray(np.ascontiguousarray(img[..., ::-1]))  # BGR to RGB
        for name, factor in self._draw():
            image = _shift_hue(image, factor) if name == 'hue' else ENHANCERS[name](image).enhance(factor)
        results['img'] = np.ascontiguousarray(np.asarray(image)[..., ::-1])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({", ".join(f"{name}={value}" for name, value in self.ranges.items())})'


def _range(name: str, value: float | Sequence[float]) -> tuple[float, float]:
    """Returns the range of a setting, as (low, high)."""
    neutral, smallest, largest = FACTORS[name]
    if isinstance(value, (int, float)):
        low, high = neutral - value, neutral + value
        if name != 'hue':  # as torchvision: brightness 1.5 stands for [0, 2.5], a hue of 0.6 is a mistake
            low = max(low, smallest)
    else:
        low, high = value
    if not smallest <= low <= high <= largest:
        raise ValueError(
            f'{name}={value!r} gives the range ({low}, {high}), which must rise and lie within ({smallest}, {largest});'
            ' give a number that is not negative, or (low, high)'
        )
    return float(low), float(high)


def _shift_hue(image: Image.Image, shift: float) -> Image.Image:
    """Turns the hue of an RGB image by a part of the circle; 255 steps make one turn, rounded towards 0."""
    hue, saturation, value = image.convert('HSV').split()
    turned = np.asarray(hue) + np.int32(shift * 255).astype(np.uint8)  # uint8 wraps round
    return Image.merge('HSV', (Image.fromarray(turned), saturation, value)).convert('RGB')
