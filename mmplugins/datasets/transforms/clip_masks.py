"""What the transforms of clips share: reading object masks, and numbering objects."""

import random
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from .image_files import open_image, orientation_of

IGNORED = 255
HALF = 127  # of binary masks with smooth edges, grey values above it are the object
MOST_SOLID = 32  # grey values beside 0 and 255; masks that JPEG or a resize made have more
FEWEST_GREYS, MANY_GREYS = 8, 64  # values of the rim of an object that is not 255, and of a wide blur


def read_object_mask(path: str, threshold: int | None = None, backend_args: dict | None = None) -> np.ndarray:
    """Reads the object of each pixel from a palette or grey image.

    Args:
        path: File of any of mmengine's backends.
        threshold: Pixels whose grey value is above it are object 1, all others 0; 0 takes all values but 0, whatever
            their colours in a palette, but of masks with smooth edges (see ``has_smooth_edges``) those above 127. None:
            values are objects, 255 is not valid.
        backend_args: Arguments of mmengine's file backend.

    Returns:
        uint8, shape (H, W).

    Raises:
        ValueError: There is no threshold, and the image has colours, but no palette, or smooth edges, or is a JPEG; or
            it has more pixels than Pillow opens.
    """
    with open_image(path, backend_args) as image:
        coloured = has_colours(image)
        if image.mode not in ('P', 'L', '1'):
            if threshold is None:
                raise ValueError(
                    f'mask {path} is an image of mode {image.mode}, so its pixels are no object numbers; save it with '
                    'a palette, or take all that is not black for one object with single_object=True'
                )
            image = image.convert('L')
        elif threshold:
            image = image.convert('L')
        if threshold is None and image.format == 'JPEG':
            raise ValueError(
                f'mask {path} is a JPEG, whose values are not exact, so they are no object numbers; save masks as PNG, '
                'or take it for one object with single_object=True'
            )
        mask = np.asarray(image).astype(np.uint8)
    smooth = not threshold and not coloured and has_smooth_edges(mask)
    if smooth and threshold is None:
        raise ValueError(
            f'mask {path} is grey with smooth edges: the object is {mask.max()}, and each of the '
            f'{len(set(objects_of(mask)) - {int(mask.max())})} other values at its rim would be an object; set '
            f'single_object=True to take all above {HALF} for one object (mask_threshold={HALF} in a '
            'StaticVOSDataset). If its values are object numbers and 255 is not valid, save it with a palette of '
            'colours'
        )
    if threshold is not None:
        mask = (mask > (HALF if smooth else threshold)).astype(np.uint8)
    return mask


def has_colours(image: Image.Image) -> bool:
    """Tells whether an image has a palette with a colour that is not grey, as masks of object numbers have."""
    if image.mode != 'P':
        return False
    palette = np.array(image.getpalette('RGB') or (), np.uint8).reshape(-1, 3)
    return bool((palette != palette[:, :1]).any())


def has_smooth_edges(mask: np.ndarray) -> bool:
    """Tells whether a grey image is one bright object with a smooth rim, rather than object numbers.

    It is if its largest value fills a square of 3 by 3 pixels somewhere, most of the pixels that are not 0 are above
    127, and the values below make a rim: none of them fills such a square, or, of more than 32 values, less than half
    do (what JPEG leaves in flat areas). A rim below another value than 255, such as 250, has 8 values or more. Of a
    wide blur, 64 values of which less than half fill a square, neither is asked for. Objects that are numbered, beside
    a 255 that is not valid, fill areas.

    Args:
        mask: uint8, (H, W).

    Examples:
        >>> mask = np.zeros((20, 20), np.uint8)
        >>> mask[5:15, 5:15] = 255
        >>> mask[5, 5] = 100  # one pixel of a rim
        >>> has_smooth_edges(mask)
        True
        >>> mask[2:5, 5:15] = 1  # an object beside pixels that are not valid
        >>> has_smooth_edges(mask)
        False
    """
    counts = np.bincount(mask.ravel(), minlength=IGNORED + 1)
    largest = int(mask.max(initial=0))
    between = np.flatnonzero(counts[1:largest]) + 1
    if between.size < (1 if largest == IGNORED else FEWEST_GREYS) or largest <= HALF:
        return False
    square = np.ones((3, 3), np.uint8)
    lowest, highest = (filter_(mask, square, borderValue=0) for filter_ in (cv2.erode, cv2.dilate))
    solid = set(np.unique(mask[lowest == highest]).tolist()) - {0}  # values of squares of one value
    bright = counts[HALF + 1 :].sum() > counts[1 : HALF + 1].sum()
    rim = len(solid - {largest}) < (1 if between.size <= MOST_SOLID else between.size / 2)
    return rim and (between.size >= MANY_GREYS or (largest in solid and bool(bright)))


def check_mask_size(
    mask: np.ndarray,
    size: tuple[int, int],
    video: str,
    mask_path: str,
    frame_path: str,
    backend_args: dict | None = None,
) -> None:
    """Raises ValueError if a mask (H, W) has not the size of its frame, which is (height, width)."""
    if mask.shape == size:
        return
    remedy = 'give the masks at the size of the frames'
    if mask.shape == size[::-1]:
        with open_image(frame_path, backend_args) as image:
            tag = orientation_of(image)
        if tag != 1:
            remedy = (
                f'the frame has the EXIF orientation tag {tag}, which is not applied: store the frames turned, without '
                'the tag, or draw the masks on the pixels as stored'
            )
    raise ValueError(
        f'video {video}: the mask {mask_path} is {mask.shape}, its frame {frame_path} is {size} (height, width); '
        f'{remedy}'
    )


def objects_of(mask: np.ndarray, min_pixels: int = 0) -> list[int]:
    """Returns the numbers of the objects, ascending, that have more than ``min_pixels`` pixels in a mask, uint8."""
    counts = np.bincount(mask.ravel(), minlength=IGNORED + 1)
    return [number for number in range(1, IGNORED) if counts[number] > min_pixels]


def number_objects(masks: Sequence[np.ndarray], min_pixels: int, max_objects: int) -> tuple[list[np.ndarray], int]:
    """Numbers the objects of a clip's first frame from 1; all others become background, and 255 stays.

    Args:
        masks: uint8, any shapes.
        min_pixels: Pixels of which an object must have more in the first mask to count.
        max_objects: Most objects; of more, some are chosen at random.

    Returns:
        New masks, uint8, of the same shapes, and the number of objects.
    """
    kept = objects_of(masks[0], min_pixels)
    if len(kept) > max_objects:
        kept = random.sample(kept, max_objects)
    table = np.zeros(IGNORED + 1, dtype=np.uint8)
    table[IGNORED] = IGNORED
    table[kept] = np.arange(1, len(kept) + 1)
    return [table[mask] for mask in masks], len(kept)
