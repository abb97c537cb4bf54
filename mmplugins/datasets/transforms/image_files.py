"""What all readers of images and masks share: the order of names, lists of names, and how a file is opened.

Pixels count as they are stored: an EXIF orientation tag turns neither frames nor masks, so that both fit.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO

import mmcv
import numpy as np
from mmengine import fileio
from PIL import Image

ORIENTATION = 0x0112  # EXIF tag: 1 upright, 2 to 4 mirrored or upside down, 5 to 8 with the axes swapped
APPLIED_BY = ('cv2', 'pillow')  # mmcv's other backends ignore the tag


def natural_key(name: str) -> tuple:
    """Returns a key that sorts names with their numbers as numbers: 1, 2, 10, whatever their leading zeros.

    Examples:
        >>> sorted(['10', '2', 'b1', '001', '1'], key=natural_key)
        ['001', '1', '2', '10', 'b1']
    """
    parts = re.split(r'(\d+)', name)  # text and digits by turns
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts)), name


def read_lines(path: str, backend_args: dict | None = None) -> list[str]:
    """Reads the lines of a text file that are not empty, without a byte-order mark and the blanks at their ends."""
    text = fileio.get_text(path, encoding='utf-8-sig', backend_args=backend_args)
    return [line.strip() for line in text.splitlines() if line.strip()]


@contextmanager
def open_image(path: str, backend_args: dict | None = None) -> Iterator[Image.Image]:
    """Opens an image with Pillow; its pixels are as stored.

    Raises:
        ValueError: It has more pixels than Pillow allows.
    """
    data = fileio.get(path, backend_args=backend_args)
    try:
        image = Image.open(BytesIO(data))
    except Image.DecompressionBombError as error:
        raise ValueError(
            f'{path} has more pixels than Pillow opens, {2 * Image.MAX_IMAGE_PIXELS} (twice PIL.Image.MAX_IMAGE_PIXELS'
            ', which guards against files made to fill the memory); if you trust your files, set '
            'PIL.Image.MAX_IMAGE_PIXELS = None in a module that custom_imports of the config names, or cut the image'
        ) from error
    with image:
        yield image


def decode_frame(data: bytes) -> np.ndarray | None:
    """Decodes an image with OpenCV, uint8, (H, W, 3), BGR, pixels as stored; None if it is no image."""
    return mmcv.imfrombytes(data, flag='color_ignore_orientation', backend='cv2') if data else None


def orientation_of(image: Image.Image) -> int:
    """Returns the EXIF orientation tag of an image, 1 to 8; 1 if it has none, or one that means nothing."""
    tag = image.getexif().get(ORIENTATION, 1)
    return tag if tag in range(1, 9) else 1


def loader_turns(transforms: Sequence) -> bool:
    """Tells whether a pipeline loads its images by mmcv's LoadImageFromFile with their orientation tag applied."""
    return any(
        getattr(step, 'color_type', None) in ('color', 'grayscale')
        and getattr(step, 'imdecode_backend', None) in APPLIED_BY
        for step in transforms
    )
