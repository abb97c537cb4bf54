"""What all readers of images and masks share: the order of names, lists of names, and how a file is opened.

Pixels count as they are stored: an EXIF orientation tag turns neither frames nor masks, so that both fit.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmengine import fileio
from PIL import Image, ImageOps

ORIENTATION = 0x0112  # EXIF tag: 1 upright, 2 to 4 mirrored or upside down, 5 to 8 with the axes swapped
HEAD = 2**17  # bytes, in which the tags of a JPEG or PNG lie
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


def grey_values(image: Image.Image, threshold: int, path: str) -> np.ndarray:
    """Returns the grey values of a binary mask; colours are turned into grey.

    With a palette of colours, as masks of object numbers have, all that is not black is foreground, however dark its
    colour. Where the colours do not tell the parts of the mask apart, its numbers do: 0 is background.

    Args:
        image: Opened by Pillow, of any mode; 16-bit values are brought to 8 bits.
        threshold: Grey value, 0 to 255, above which a pixel is foreground.
        path: Its file, for errors.

    Returns:
        uint8 (H, W).

    Raises:
        ValueError: The alpha channel and the colours tell different foregrounds.
    """
    if image.mode.startswith('I'):  # Pillow's own conversion cuts all above 255 to 255
        values = np.asarray(image).astype(np.int64)
        return (values >> 8 if values.max(initial=0) > 255 else values).astype(np.uint8)
    grey = np.asarray(image.convert('L'))
    if image.mode in ('LA', 'PA', 'RGBA'):
        alpha = np.asarray(image.getchannel('A'))
        if alpha.min() != alpha.max() and ((alpha > 127) != (grey > threshold)).any():
            raise ValueError(
                f'the alpha channel of the mask {path} and its colours tell different foregrounds; save it as a grey '
                'image, 0 and 255'
            )
    if image.mode == 'P':
        numbers = np.asarray(image)
        colours = np.asarray(image.convert('RGB'))
        if (colours != colours[..., :1]).any():
            grey = np.where(colours.any(-1), 255, 0).astype(np.uint8)
        foreground = grey > threshold
        if numbers.min() != numbers.max() and foreground.min() == foreground.max():  # the colours do not tell
            return np.where(numbers == 0, 0, 255).astype(np.uint8)
    return grey


def loader_turns(transforms: Sequence) -> bool:
    """Tells whether a pipeline loads its images by mmcv's LoadImageFromFile with their orientation tag applied."""
    return any(
        getattr(step, 'color_type', None) in ('color', 'grayscale')
        and getattr(step, 'imdecode_backend', None) in APPLIED_BY
        for step in transforms
    )


def check_not_turned(results: dict) -> None:
    """Checks that an orientation tag has not turned a loaded image, which its mask does not follow.

    Only files on a local disk that have such a tag are decoded again; others cost a look at their head.

    Args:
        results: Of a pipeline, with ``img_path``, and with ``img`` (H, W, 3) if an image was loaded, resized or not.

    Raises:
        ValueError: The image was turned.
    """
    path, loaded = results.get('img_path'), results.get('img')
    if loaded is None or not path or not Path(path).is_file():
        return
    with Path(path).open('rb') as file:
        head = file.read(HEAD)
    if b'Exif\0\0' not in head and b'eXIf' not in head:  # of JPEG and PNG
        return
    with open_image(path) as image:
        tag = orientation_of(image)
        if tag == 1:
            return
        size = (16, 16)
        stored = image.convert('L')
        turned = np.asarray(ImageOps.exif_transpose(stored).resize(size, Image.Resampling.BOX), np.float32)
        stored = np.asarray(stored.resize(size, Image.Resampling.BOX), np.float32)
    seen = cv2.resize(np.asarray(loaded, np.float32), size, interpolation=cv2.INTER_AREA)
    grey = seen @ np.float32([0.114, 0.587, 0.299]) if seen.ndim == 3 else seen
    if np.abs(grey - turned).mean() < np.abs(grey - stored).mean():
        raise ValueError(turned_message(path, tag))


def turned_message(path: str, tag: int) -> str:
    """Says what an orientation tag does to an image with a mask, and how to mend it."""
    return (
        f'{path} has the EXIF orientation tag {tag}, so that the image is turned as it is loaded, and its mask is not; '
        "set color_type='color_ignore_orientation' in LoadImageFromFile. If the mask was drawn on the turned image, "
        'store the image turned, without the tag'
    )
