"""Makes a clip of a single image by random affine motion.

Follows the released code of AOT (``dataloaders/train_datasets.py``, ``StaticTrain``, and
``dataloaders/image_transforms.py``, ``RandomAffine`` and ``RandomResizedCrop``). Deliberate differences: an object must
have more than ``min_pixels`` pixels in the first frame to count, and jitter of the colours is a transform of its own,
``mmplugins.ColorJitter``, which then changes the first frame too.
"""

import math
import random
from collections.abc import Sequence

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform

from mmplugins.registry import TRANSFORMS

from .clip_masks import number_objects

CROP_TRIES = 10


@TRANSFORMS.register_module()
class SyntheticClip(BaseTransform):
    """Makes a clip of an image with its mask.

    For each frame:

    1. All but the first are flipped with a probability, then turned, sheared, scaled and shifted by random amounts,
       about the image's centre. What comes in from outside is background of one colour.
    2. A part of random area and shape is cut out, and resized to ``size``. Of parts that do not fit into the image,
       ``CROP_TRIES`` are drawn; after them the whole image is taken.

    Then:

    3. Objects of the first frame are numbered from 1, at most ``max_objects`` of them, chosen at random; all others are
       background. If there are none, there is no clip, and mmengine's data set takes another image.

    Images are interpolated bilinearly as they move, and by ``interpolation`` as they are resized; masks never are.

    Required Keys:

    - img (list of one np.uint8, shape (H, W, 3), BGR)
    - gt_seg_map (list of one np.uint8, shape (H, W))

    Modified Keys:

    - img, gt_seg_map, lists of ``length``

    Added Keys:

    - img_shape, (H, W)
    - num_objects

    Args:
        size: Height and width of the frames.
        length: Frames of a clip.
        flip_prob: Probability that a frame is flipped, left to right.
        degrees: Largest turn, either way.
        translate: Largest shift, as a part of the image's width and height.
        scale: Range of the factor of size.
        shear: Largest angle of the shear along x in degrees, either way.
        crop_area: Range of the part's area, relative to the image's.
        crop_ratio: Range of the part's width / height, relative to that of ``size``; its logarithm is uniform.
        min_pixels: Pixels of which an object must have more in the first frame to count.
        max_objects: Most objects of a clip.
        pad_value: Colour of what comes in from outside, BGR.
        interpolation: As mmcv's ``imresize`` takes it.
    """

    def __init__(
        self,
        size: Sequence[int],
        length: int = 5,
        flip_prob: float = 0.3,
        degrees: float = 20,
        translate: float = 0.1,
        scale: Sequence[float] = (0.9, 1.1),
        shear: float = 10,
        crop_area: Sequence[float] = (0.8, 1.0),
        crop_ratio: Sequence[float] = (3 / 4, 4 / 3),
        min_pixels: int = 100,
        max_objects: int = 10,
        pad_value: Sequence[float] = (104, 116, 124),
        interpolation: str = 'bilinear',
    ) -> None:
        if len(size) != 2 or min(*size, length) < 1:
            raise ValueError(f'size is (height, width), and it and length are at least 1, got {tuple(size)}, {length}')
        self.size = tuple(size)
        self.length = length
        self.flip_prob = flip_prob
        self.degrees = degrees
        self.translate = translate
        self.scale = tuple(scale)
        self.shear = shear
        self.crop_area = tuple(crop_area)
        self.crop_ratio = tuple(crop_ratio)
        self.min_pixels = min_pixels
        self.max_objects = max_objects
        self.pad_value = tuple(pad_value)
        self.interpolation = interpolation

    def transform(self, results: dict) -> dict | None:
        """Makes a clip of one image."""
        frames, masks = [], []
        for index in range(self.length):
            frame, mask = results['img'][0], results['gt_seg_map'][0]
            if index:
                frame, mask = self._move(frame, mask)  # 1.
            window = self._window(*mask.shape)  # 2.
            frames.append(mmcv.imresize(frame[window], self.size[::-1], interpolation=self.interpolation))
            masks.append(mmcv.imresize(mask[window], self.size[::-1], interpolation='nearest'))
        masks, count = number_objects(masks, self.min_pixels, self.max_objects)  # 3.
        if not count:
            return None
        results.update(img=frames, gt_seg_map=masks, img_shape=self.size, num_objects=count)
        return results

    def _move(self, frame: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if random.random() < self.flip_prob:
            frame, mask = mmcv.imflip(frame), mmcv.imflip(mask)
        height, width = mask.shape
        matrix = affine_matrix(
            (width - 1) / 2,
            (height - 1) / 2,
            math.radians(random.uniform(-self.degrees, self.degrees)),
            math.radians(random.uniform(-self.shear, self.shear)),
            random.uniform(*self.scale),
            (width * random.uniform(-self.translate, self.translate)),
            (height * random.uniform(-self.translate, self.translate)),
        )
        frame = cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=self.pad_value)
        return frame, cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=0)

    def _window(self, height: int, width: int) -> tuple[slice, slice]:
        """Draws the part that is cut out."""
        for _ in range(CROP_TRIES):
            area = random.uniform(*self.crop_area) * height * width
            ratio = self.size[1] / self.size[0] * math.exp(random.uniform(*map(math.log, self.crop_ratio)))
            rows, columns = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < rows <= height and 0 < columns <= width:
                top, left = random.randint(0, height - rows), random.randint(0, width - columns)
                return slice(top, top + rows), slice(left, left + columns)
        return slice(None), slice(None)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, length={self.length}, flip_prob={self.flip_prob}, '
            f'degrees={self.degrees}, translate={self.translate}, scale={self.scale}, shear={self.shear}, '
            f'crop_area={self.crop_area}, crop_ratio={self.crop_ratio}, min_pixels={self.min_pixels}, '
            f'max_objects={self.max_objects}, pad_value={self.pad_value}, interpolation={self.interpolation!r})'
        )


def affine_matrix(x: float, y: float, angle: float, shear: float, scale: float, dx: float, dy: float) -> np.ndarray:
    """Composes shear along x, then scale and turn, all about a centre, then a shift.

    Args:
        x: Centre, to the right, in pixels.
        y: Centre, down.
        angle: Of the turn, in radians, clockwise in the image.
        shear: Angle in radians by which vertical lines lean.
        scale: Factor of lengths.
        dx: Shift to the right, in pixels.
        dy: Shift down.

    Returns:
        float64, shape (2, 3): maps (x, y, 1) of a point to its new place.

    Examples:
        >>> affine_matrix(1, 1, math.pi / 2, 0, 1, 0, 0).round(3) @ [2, 1, 1]  # right of the centre: turned below it
        array([1., 2.])
    """
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ np.array([[1.0, math.tan(shear)], [0.0, 1.0]])
    centre = np.array([x, y])
    return np.column_stack([linear, centre + [dx, dy] - linear @ centre])
