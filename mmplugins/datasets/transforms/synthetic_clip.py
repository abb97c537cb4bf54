"""Makes a clip of a single image by random affine motion.

Follows the released code of AOT (``dataloaders/train_datasets.py``, ``StaticTrain``, and
``dataloaders/image_transforms.py``, ``RandomAffine`` and ``RandomResizedCrop``; with ``backend='pillow'`` its
resampling too). Deliberate differences: an object must have more than ``min_pixels`` pixels in the first frame to
count; shifts are not rounded to pixels; where no part fits into the image, the whole image is taken, not its centre.
"""

import math
import random
from collections.abc import Sequence

import cv2
import mmcv
import numpy as np
from mmcv.image.geometric import cv2_interp_codes
from mmcv.transforms import BaseTransform
from PIL import Image

from mmplugins.registry import TRANSFORMS

from .clip_masks import number_objects
from .color_jitter import ColorJitter

CROP_TRIES = 10
PILLOW_FILTERS = {name: Image.Resampling[name.upper()] for name in ('nearest', 'bilinear', 'bicubic')}


@TRANSFORMS.register_module()
class SyntheticClip(BaseTransform):
    """Makes a clip of an image with its mask.

    For each frame:

    1. All but the first are flipped with a probability, then turned, sheared, scaled and shifted by random amounts,
       about the image's centre. What comes in from outside is background of one colour.
    2. Its colours are jittered, if ``color_jitter`` says how.
    3. A part of random area and shape is cut out, and resized to ``size``. Of parts that do not fit into the image,
       ``CROP_TRIES`` are drawn; after them the whole image is taken.

    Then:

    4. Objects of the first frame are numbered from 1, at most ``max_objects`` of them, chosen at random; all others are
       background. If there are none, there is no clip, and mmengine's data set takes another image.

    Images are interpolated as they move and as they are resized; masks never are.

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
        interpolation: As mmcv's ``imresize`` takes it; with Pillow 'nearest', 'bilinear' or 'bicubic'.
        backend: 'cv2', or 'pillow', which smooths where it shrinks and does not blend with what is outside.
        color_jitter: Arguments of ``ColorJitter``, drawn for each frame; None: the colours stay.

    Raises:
        ValueError: A size, a length, a backend or an interpolation that there is not.
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
        backend: str = 'cv2',
        color_jitter: dict | None = None,
    ) -> None:
        if len(size) != 2 or min(*size, length) < 1:
            raise ValueError(f'size is (height, width), and it and length are at least 1, got {tuple(size)}, {length}')
        known = {'cv2': cv2_interp_codes, 'pillow': PILLOW_FILTERS}
        if interpolation not in known.get(backend, ()):
            raise ValueError(
                "backend and interpolation are 'cv2' with one of "
                f"{tuple(cv2_interp_codes)}, or 'pillow' with one of {tuple(PILLOW_FILTERS)}, got {backend!r} and "
                f'{interpolation!r}'
            )
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
        self.backend = backend
        self.color_jitter = ColorJitter(**color_jitter) if color_jitter else None

    def transform(self, results: dict) -> dict | None:
        """Makes a clip of one image."""
        frames, masks = [], []
        for index in range(self.length):
            frame, mask = results['img'][0], results['gt_seg_map'][0]
            if index:
                frame, mask = self._move(frame, mask)  # 1.
            if self.color_jitter:
                frame = self.color_jitter(dict(img=frame))['img']  # 2.
            window = self._window(*mask.shape)  # 3.
            frames.append(self._resize(frame[window], self.interpolation))
            masks.append(self._resize(mask[window], 'nearest'))
        masks, count = number_objects(masks, self.min_pixels, self.max_objects)  # 4.
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
        return self._warp(frame, matrix, self.interpolation, self.pad_value), self._warp(mask, matrix, 'nearest', 0)

    def _warp(
        self, image: np.ndarray, matrix: np.ndarray, interpolation: str, outside: int | Sequence[int]
    ) -> np.ndarray:
        size = image.shape[1::-1]
        if self.backend == 'cv2':
            return cv2.warpAffine(image, matrix, size, flags=cv2_interp_codes[interpolation], borderValue=outside)
        # Pillow maps new places to old ones; its first pixel's centre lies at 0.5.
        back = np.linalg.inv(matrix[:, :2])
        offset = back @ (-0.5 - matrix[:, 2]) + 0.5
        moved = Image.fromarray(np.ascontiguousarray(image)).transform(
            size,
            Image.Transform.AFFINE,
            np.column_stack([back, offset]).ravel().tolist(),
            resample=PILLOW_FILTERS[interpolation],
            fillcolor=outside,
        )
        return np.array(moved)

    def _resize(self, image: np.ndarray, interpolation: str) -> np.ndarray:
        return mmcv.imresize(image, self.size[::-1], interpolation=interpolation, backend=self.backend)

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
            f'max_objects={self.max_objects}, pad_value={self.pad_value}, interpolation={self.interpolation!r}, '
            f'backend={self.backend!r}, color_jitter={self.color_jitter})'
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
