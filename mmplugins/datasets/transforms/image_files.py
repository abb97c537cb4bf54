"""How all readers of images and masks treat a file: one rule each, for data sets, transforms and tools.

- Pixels are taken as they are stored. An EXIF orientation turns nothing, so that an image and a mask that was drawn on
  its pixels fit; mmcv's readers are told so by ``color_type='color_ignore_orientation'``.
- The grey values of a mask are those of the image. The colours of a palette are turned into grey; where these do not
  tell the parts of the mask apart, the numbers do: 0 is background. A mask in the alpha channel is refused.
- Numbers in names are compared as numbers: frame 2 comes before frame 10.
"""

import re
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from mmengine import fileio
from PIL import Image

ORIENTATION = 274  # EXIF tag; 1 is upright


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Returns what names are sorted by, so that numbers in them compare as numbers."""
    return [
        (False, int(part), part) if part.isdigit() else (True, 0, part) for part in re.split(r'(\d+)', name) if part
    ]


def list_of_names(text: str) -> list[str]:
    """Returns the lines of a list, without blanks around them, a byte-order mark or empty ones."""
    return [line.strip() for line in text.lstrip('\ufeff').splitlines() if line.strip()]


@contextmanager
def opened(path: str, backend_args: dict | None = None):
    """Opens an image of any of mmengine's file backends with Pillow.

    Raises:
        ValueError: It has more pixels than Pillow reads.
    """
    try:
        with Image.open(BytesIO(fileio.get(path, backend_args=backend_args))) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise ValueError(
            f'{path} has more pixels than Pillow reads, twice PIL.Image.MAX_IMAGE_PIXELS = {Image.MAX_IMAGE_PIXELS} '
            f'({error}); cut it into parts, or raise that limit where your program or config begins'
        ) from error


def orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation of an opened image: 1 upright, 3 upside down, 6 and 8 on its side, ..."""
    return int(image.getexif().get(ORIENTATION, 1) or 1)


def grey_values(image: Image.Image, threshold: int, path: str) -> np.ndarray:
    """Returns the grey values of a binary mask; see the module for palettes and alpha channels.

    Args:
        image: Opened by Pillow, of any mode; 16-bit values are brought to 8 bits.
        threshold: Grey value, 0 to 255, above which a pixel is foreground.
        path: Its file, for errors.

    Returns:
        uint8 (H, W).

    Raises:
        ValueError: The mask lies in the alpha channel.
    """
    if image.mode.startswith('I'):  # Pillow's own conversion cuts all above 255 to 255
        values = np.asarray(image).astype(np.int64)
        return (values >> 8 if values.max(initial=0) > 255 else values).astype(np.uint8)
    grey = np.asarray(image.convert('L'))
    if image.mode in ('LA', 'PA', 'RGBA'):
        alpha = np.asarray(image.getchannel('A'))
        visible = grey[alpha > 0]
        if alpha.min() != alpha.max() and visible.min() == visible.max():
            raise ValueError(
                f'the mask {path} lies in the alpha channel, its colours are one; save it as a grey image, 0 and 255'
            )
    if image.mode == 'P':
        numbers, foreground = np.asarray(image), grey > threshold
        if numbers.min() != numbers.max() and foreground.min() == foreground.max():  # the colours do not tell
            return np.where(numbers == 0, 0, 255).astype(np.uint8)
    return grey


def check_object_numbers(mask: np.ndarray, path: str) -> None:
    """Raises ValueError if a grey mask shows one object as 255 with a rim of grey, not the numbers of objects.

    Such are masks that were drawn with smooth edges, resized, or saved as JPEG: bright pixels, and fewer others that
    are of many values, or lie beside bright ones and have values above 10.

    Args:
        mask: uint8 (H, W), grey values.
        path: Its file, for the error.
    """
    bright = mask >= 250
    between = (mask > 0) & ~bright
    if not bright.any() or not between.any() or between.sum() > bright.sum() or mask[between].max() <= 10:
        return
    near = bright
    for _ in range(3):  # pixels of the rim
        near = np.pad(near, 1)
        near = near[1:-1, 1:-1] | near[:-2, 1:-1] | near[2:, 1:-1] | near[1:-1, :-2] | near[1:-1, 2:]
    if near[between].mean() > 0.9 or len(np.unique(mask[between])) > 20:
        raise ValueError(
            f'the mask {path} shows one object, in grey from 0 to {mask.max()} with smooth edges, not the numbers of '
            'objects; take it for one object with single_object=True, or save numbers, 1, 2, ...'
        )
