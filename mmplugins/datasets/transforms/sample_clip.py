"""Draws the frames of a clip from a video.

Follows the released code of AOT (``dataloaders/train_datasets.py``, ``VOSTrain``): any frame may come first, gaps are
uniform, the order may be reversed, and frames beyond the end are reflected. Deliberate differences: no frame is tried
twice; a video without any object in the frames that were tried is replaced by another one; where every draw has objects
that appear later, the last draw is taken and these objects are background, as in ``RandomCropClip``.
"""

import random

import numpy as np
from mmcv.transforms import BaseTransform

from mmplugins.registry import TRANSFORMS

from .clip_masks import IGNORED, objects_of, read_object_mask


@TRANSFORMS.register_module()
class SampleClip(BaseTransform):
    """Draws a clip from the annotated frames of a video, and loads its masks.

    1. The video is reversed with a probability.
    2. A first frame is drawn that shows objects on more than ``min_pixels`` pixels. If none of ``reference_tries``
       frames does, the one with the most such pixels is taken; if none has any object, there is no clip, and
       mmengine's data set takes another video.
    3. Each further frame is 1 to ``max_gap`` annotated frames on; beyond the video's end they go back.
    4. If an object is seen later that the first frame does not show, steps 2 and 3 are repeated, up to ``clip_tries``
       times in all.

    Required Keys:

    - img_path (list of str), all annotated frames
    - seg_map_path (list of str), their masks
    - video_name
    - mask_threshold (optional), see ``read_object_mask``

    Modified Keys:

    - img_path, seg_map_path, those of the clip

    Added Keys:

    - gt_seg_map (list of np.uint8, shape (H, W)), objects as the files number them
    - seg_fields

    Args:
        length: Frames of a clip.
        max_gap: Largest step between two of them, counted in annotated frames.
        reverse_prob: Probability of the reversal.
        min_pixels: Pixels that objects must have in the first frame.
        reference_tries: Frames that are looked at to find a first one.
        clip_tries: Clips that are drawn to find one without objects that appear later.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        ValueError: A number is out of range; or a video's masks hold 0 and 255 only and are not taken for one object.
    """

    def __init__(
        self,
        length: int = 5,
        max_gap: int = 12,
        reverse_prob: float = 0.5,
        min_pixels: int = 200,
        reference_tries: int = 20,
        clip_tries: int = 5,
        backend_args: dict | None = None,
    ) -> None:
        if min(length, max_gap, reference_tries, clip_tries) < 1:
            raise ValueError(
                'length, max_gap, reference_tries and clip_tries must be at least 1, got '
                f'{length}, {max_gap}, {reference_tries} and {clip_tries}'
            )
        self.length = length
        self.max_gap = max_gap
        self.reverse_prob = reverse_prob
        self.min_pixels = min_pixels
        self.reference_tries = reference_tries
        self.clip_tries = clip_tries
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict | None:
        """Draws a clip of one video."""
        frames, paths = results['img_path'], results['seg_map_path']
        read: dict[int, np.ndarray] = {}

        def mask_of(index: int) -> np.ndarray:
            if index not in read:
                read[index] = read_object_mask(paths[index], results.get('mask_threshold'), self.backend_args)
            return read[index]

        step = -1 if random.random() < self.reverse_prob else 1  # 1.
        for _ in range(self.clip_tries):
            first = self._first_frame(len(frames), mask_of)  # 2.
            if first is None:
                self._check_values(read, results['video_name'])
                return None
            indices = self._indices(first, step, len(frames))  # 3.
            shown = set(objects_of(mask_of(first)))
            if all(shown.issuperset(objects_of(mask_of(index))) for index in indices):  # 4.
                break
        results['img_path'] = [frames[index] for index in indices]
        results['seg_map_path'] = [paths[index] for index in indices]
        results['gt_seg_map'] = [mask_of(index) for index in indices]
        results['seg_fields'] = ['gt_seg_map']
        return results

    def _first_frame(self, count: int, mask_of) -> int | None:
        best, most = None, 0
        for index in random.sample(range(count), min(count, self.reference_tries)):
            mask = mask_of(index)
            pixels = int(np.count_nonzero((mask > 0) & (mask != IGNORED)))
            if pixels > self.min_pixels:
                return index
            if pixels > most:
                best, most = index, pixels
        return best

    def _indices(self, first: int, step: int, count: int) -> list[int]:
        indices = [first]
        position = first
        for _ in range(self.length - 1):
            position += step * random.randint(1, self.max_gap)
            indices.append(reflected(position, count))
        return indices

    def _check_values(self, read: dict[int, np.ndarray], video: str) -> None:
        if any((mask == IGNORED).any() for mask in read.values()):
            raise ValueError(
                f'video {video}: its masks hold no values but 0 and {IGNORED}, which is ignored; for masks that show '
                'one object as 255 set single_object=True in the data set'
            )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(length={self.length}, max_gap={self.max_gap}, reverse_prob={self.reverse_prob}, '
            f'min_pixels={self.min_pixels}, reference_tries={self.reference_tries}, clip_tries={self.clip_tries})'
        )


def reflected(index: int, count: int) -> int:
    """Returns an index in 0..count-1 for any integer: beyond an end the frames go back, and the end comes once.

    Examples:
        >>> [reflected(i, 4) for i in range(-2, 8)]
        [2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
    """
    if count == 1:
        return 0
    index %= 2 * (count - 1)
    return min(index, 2 * (count - 1) - index)
