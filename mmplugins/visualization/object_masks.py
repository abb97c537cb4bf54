"""Masks of numbered objects as index images and painted over frames.

The palette is that of PASCAL VOC, which DAVIS and YouTube-VOS use too.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def object_palette() -> np.ndarray:
    """Returns the colour of each of 256 numbers: RGB, uint8, shape (256, 3).

    Bits 0, 3 and 6 of a number are the highest, second and third highest bit of red, and so on; bits 1, 4 and 7 are
    those of green, bits 2 and 5 of blue.

    Examples:
        >>> object_palette()[:4].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    numbers = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= ((numbers >> bit & 1) << 7 - bit // 3).astype(np.uint8)
    return palette


def write_index_image(path: str | Path, mask: np.ndarray) -> None:
    """Writes a mask as a PNG with a palette, whose pixels are object numbers; makes its folder.

    Args:
        path: The file.
        mask: Object of each pixel, uint8, shape (H, W).

    Raises:
        ValueError: The mask is of another shape or type.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f'an index image is made of a mask (H, W), uint8, got {mask.shape}, {mask.dtype}')
    image = Image.fromarray(mask)
    image.putpalette(object_palette().tobytes())
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def paint_objects(image: np.ndarray, mask: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Paints objects over a frame, each in its colour, with an opaque contour of two pixels inside its edge.

    Args:
        image: BGR, as OpenCV and the toolboxes read it, uint8, shape (H, W, 3).
        mask: Object of each pixel, uint8, shape (H, W); 0 is left as it is.
        opacity: Of the colour inside, from 0 to 1.

    Returns:
        A new image, BGR, uint8, shape (H, W, 3).

    Raises:
        ValueError: The mask is not of the image's size.
    """
    if image.shape != (*mask.shape, 3):
        raise ValueError(f'the mask must be of the size of the image, {image.shape[:2]}, got {mask.shape}')
    colors = object_palette()[:, ::-1][mask]  # (H, W, 3)
    kernel = np.ones((5, 5), np.uint8)
    contour = cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
    share = np.where(contour, 1.0, opacity)[..., None] * (mask > 0)[..., None]
    return np.round(share * colors + (1 - share) * image).astype(np.uint8)
