"""Crops a clip so that its first frame keeps objects.

Follows the released code of AOT (``dataloaders/video_transforms.py``, ``BalancedRandomCrop`` and ``Resize`` with
padding). Deliberate difference: a clip of which no crop shows an object is replaced by another one.
"""

import random
from collections.abc import Sequence

import mmcv
from mmcv.transforms import BaseTransform

from mmplugins.registry import TRANSFORMS

from .clip_masks import number_objects, objects_of


@TRANSFORMS.register_module()
class RandomCropClip(BaseTransform):
    """Crops all frames of a clip at one random place, and numbers the objects of the first frame from 1.

    1. A place is drawn, up to ``tries`` times, until an object has more than ``min_pixels`` pixels in the first frame.
       If none has, there is no clip, and mmengine's data set takes another video.
    2. These objects are numbered from 1, at most ``max_objects`` of them, chosen at random; all others are background.
    3. Frames smaller than the crop are padded, with the frame at a random place.

    Required Keys:

    - img (list of np.uint8 or np.float32, shape (H, W, 3), BGR)
    - gt_seg_map (list of np.uint8, shape (H, W))

    Modified Keys:

    - img, gt_seg_map

    Added Keys:

    - img_shape, (H, W)
    - num_objects

    Args:
        crop_size: Height and width.
        tries: Places that are drawn.
        min_pixels: Pixels that an object must have in the first frame to count.
        max_objects: Most objects of a clip; ``MergeClips`` may bring as many again.
        pad_value: Colour of the padding, BGR.
    """

    def __init__(
        self,
        crop_size: Sequence[int],
        tries: int = 5,
        min_pixels: int = 100,
        max_objects: int = 5,
        pad_value: Sequence[float] = (104, 116, 124),
    ) -> None:
        if len(crop_size) != 2 or min(*crop_size, tries, max_objects) < 1:
            raise ValueError(
                'crop_size is (height, width), and it, tries and max_objects are at least 1, got '
                f'{tuple(crop_size)}, {tries} and {max_objects}'
            )
        self.crop_size = tuple(crop_size)
        self.tries = tries
        self.min_pixels = min_pixels
        self.max_objects = max_objects
        self.pad_value = tuple(pad_value)

    def transform(self, results: dict) -> dict | None:
        """Crops one clip."""
        masks = results['gt_seg_map']
        free = [max(side - crop, 0) for side, crop in zip(masks[0].shape, self.crop_size, strict=True)]
        for _ in range(self.tries):  # 1.
            window = tuple(
                slice(start, start + crop)
                for start, crop in zip((random.randint(0, room) for room in free), self.crop_size, strict=True)
            )
            if objects_of(masks[0][window], self.min_pixels):
                break
        else:
            return None
        masks, count = number_objects([mask[window] for mask in masks], self.min_pixels, self.max_objects)  # 2.
        rows, columns = (crop - side for crop, side in zip(self.crop_size, masks[0].shape, strict=True))
        top, left = random.randint(0, rows), random.randint(0, columns)
        padding = left, top, columns - left, rows - top  # 3.
        results['img'] = [
            mmcv.impad(frame[window], padding=padding, pad_val=self.pad_value) for frame in results['img']
        ]
        results['gt_seg_map'] = [mmcv.impad(mask, padding=padding, pad_val=0) for mask in masks]
        results['img_shape'] = self.crop_size
        results['num_objects'] = count
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(crop_size={self.crop_size}, tries={self.tries}, min_pixels={self.min_pixels}, '
            f'max_objects={self.max_objects}, pad_value={self.pad_value})'
        )
