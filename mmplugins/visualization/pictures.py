"""Label maps, masks and weights as pictures: RGB, uint8, (H, W, 3)."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

UNLABELLED_COLOUR = (0, 0, 0)
UNLABELLED_GREY = (128, 128, 128)  # where black is background
KEPT_COLOUR = (255, 120, 0)


def class_colours(count: int, palette: Sequence[Sequence[int]] | None = None) -> list[list[int]]:
    """Returns (R, G, B), 0 to 255, of each class: the palette, or matplotlib's own colours where it has too few."""
    if palette is not None and len(palette) >= count:
        return [list(colour) for colour in palette]
    return [[round(255 * part) for part in mpl.colormaps['tab20'](i % 20)[:3]] for i in range(count)]


def colourise(index: Tensor, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Gives each class its colour and everything else the unlabelled one.

    Args:
        index: Class indices, shape (H, W).
        palette: (R, G, B) of each class, 0 to 255.
    """
    colours = np.full((256, 3), UNLABELLED_COLOUR, dtype=np.uint8)
    colours[: len(palette)] = palette
    return colours[index.clamp(0, 255).numpy()]


def grey(values: Tensor) -> np.ndarray:
    """Makes values in [0, 1], shape (H, W), a grey picture."""
    return np.repeat((255 * values.float()).round().to(torch.uint8).numpy()[..., None], 3, axis=2)


def heat(values: Tensor, greatest: float) -> np.ndarray:
    """Makes values from 0, dark, to ``greatest``, bright, shape (H, W), a picture."""
    return (255 * mpl.colormaps['inferno'](values.numpy() / greatest)[..., :3]).astype(np.uint8)


def highlight(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Colours the pixels of a mask, bool, shape (H, W), on a pale grey copy of an image, uint8, shape (H, W, 3)."""
    pale = 0.45 * image.mean(axis=2, keepdims=True) + 0.5 * 255
    return np.where(mask[..., None], np.array(KEPT_COLOUR), pale).astype(np.uint8)


def edges(numbers: np.ndarray) -> np.ndarray:
    """Marks the pixels of a map (H, W) that differ from the one above or to the left, bool, (H, W)."""
    edge = np.zeros(numbers.shape, dtype=bool)
    edge[:, 1:] |= numbers[:, 1:] != numbers[:, :-1]
    edge[1:] |= numbers[1:] != numbers[:-1]
    return edge


def input_images(inputs: Tensor, preprocessor: object) -> np.ndarray:
    """Turns what a data preprocessor made for the network into images again.

    Args:
        inputs: Normalised images, shape (..., 3, H, W).
        preprocessor: mmengine's, mmdet's, mmseg's or ours; its ``mean`` and ``std`` are taken back. Channels are taken
            for blue, green, red, as the toolboxes load them, unless it swaps them.

    Returns:
        RGB, uint8, shape (..., H, W, 3).
    """
    images = inputs.detach().float()
    if getattr(preprocessor, 'mean', None) is not None and getattr(preprocessor, '_enable_normalize', True):
        images = images * preprocessor.std.to(images) + preprocessor.mean.to(images)
    swapped = any(getattr(preprocessor, name, False) for name in ('bgr_to_rgb', 'channel_conversion'))
    if not (swapped or getattr(preprocessor, '_channel_conversion', False)):
        images = images.flip(-3)
    return images.round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).cpu().numpy()
