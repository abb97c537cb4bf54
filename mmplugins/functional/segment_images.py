"""Segment ids in images, as COCO's panoptic annotations have them.

Released code: panopticapi's utils.py, ``rgb2id`` and ``id2rgb``. Shapes: H W image size.
"""

import numpy as np


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
