"""Segment ids in images, as COCO's panoptic annotations have them.

Released code: panopticapi's utils.py, ``rgb2id`` and ``id2rgb``. Shapes: H W image size.
"""

import numpy as np

COLOURS = ('RGB', 'RGBA', 'P')  # modes of Pillow that hold colours


def check_colours(mode: str, path: str) -> None:
    """Raises ValueError if an image is not of colours, so that its values are no segments.

    Args:
        mode: Of the opened image, as Pillow calls it.
        path: Its file, for the error.
    """
    if mode not in COLOURS:
        raise ValueError(
            f'{path} is an image of mode {mode!r}; in a panoptic PNG a segment is red + 256 green + 65536 blue, so '
            'save it as RGB (mmplugins.functional.segment_images.segment_image makes one of segment numbers)'
        )


def segment_ids(image: np.ndarray) -> np.ndarray:
    """Returns the segment of each pixel: red + 256 green + 65536 blue.

    Args:
        image: RGB, uint8, shape (H, W, 3).

    Returns:
        int32 (H, W); 0 is void.
    """
    red, green, blue = np.moveaxis(image.astype(np.int32), -1, 0)
    return red + 256 * green + 65536 * blue


def segment_image(ids: np.ndarray) -> np.ndarray:
    """Returns the image of segments; the inverse of ``segment_ids``.

    Args:
        ids: Integers from 0 to 256^3 - 1, shape (H, W).

    Returns:
        RGB, uint8, shape (H, W, 3).
    """
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
