"""What the transforms of clips share: reading object masks, and numbering objects."""

import random
from collections.abc import Sequence

import numpy as np

from .image_files import check_object_numbers, grey_values, opened

IGNORED = 255


def read_object_mask(path: str, threshold: int | None = None, backend_args: dict | None = None) -> np.ndarray:
    """Reads the object of each pixel from a palette or grey image.

    Args:
        path: File of any of mmengine's backends.
        threshold: Pixels whose grey value is above it are object 1, all others 0; 0 takes all values but 0, whatever
            their colours in a palette. None: values are objects, 255 is not valid.
        backend_args: Arguments of mmengine's file backend.

    Returns:
        uint8, shape (H, W).

    Raises:
        ValueError: There is no threshold, and the image has colours, but no palette, or shows one object with smooth
            edges; or the mask lies in the alpha channel.
    """
    with opened(path, backend_args) as image:
        numbered = image.mode in ('P', 'L', '1')
        if threshold or (threshold is not None and not numbered):
            return (grey_values(image, threshold, path) > threshold).astype(np.uint8)
        if not numbered:
            raise ValueError(
                f'mask {path} is an image of mode {image.mode}, so its pixels are no object numbers; save it with '
                'a palette, or take all that is not black for one object with single_object=True'
            )
        mask = np.asarray(image).astype(np.uint8)
        if threshold is None and image.mode == 'L':
            check_object_numbers(mask, path)
    return mask if threshold is None else (mask > threshold).astype(np.uint8)


def check_mask_size(mask: np.ndarray, size: tuple[int, int], video: str, mask_path: str, frame_path: str) -> None:
    """Raises ValueError if a mask (H, W) has not the size of its frame, which is (height, width)."""
    if mask.shape != size:
        turned = mask.shape == size[::-1]
        raise ValueError(
            f'video {video}: the mask {mask_path} is {mask.shape}, its frame {frame_path} is {size} (height, width); '
            + ('frames are read as they are stored, whatever their EXIF orientation: turn them' if turned else 'give')
            + (' in the files, or the masks' if turned else ' the masks at the size of the frames')
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
