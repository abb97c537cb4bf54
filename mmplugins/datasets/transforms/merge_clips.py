"""Pastes the objects of a second clip on a clip.

Follows the released code of AOT (``dataloaders/train_datasets.py``, ``_merge_sample``). Deliberate difference: pixels
of the second clip that are not valid (255) are not pasted.
"""

import random
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform, Compose

from mmplugins.registry import TRANSFORMS

from .clip_masks import IGNORED, number_objects


@TRANSFORMS.register_module()
class MergeClips(BaseTransform):
    """Pastes, with a probability, the objects of a clip of another video on all frames.

    1. Another entry of the data set goes through ``pre_transform``, which must end in a clip of the same size, with
       objects numbered from 1. If it returns none, another is taken, up to ``tries`` times, then nothing is merged.
    2. Its objects are pasted frame by frame and numbered on.
    3. Objects that keep more than ``min_pixels`` pixels in the first frame are numbered from 1, at most ``max_objects``
       of them, chosen at random; all others become background.

    With a data set of one entry nothing is merged. The data sets of this package put themselves into ``dataset``.

    Required Keys:

    - img (list of np.uint8 or np.float32, shape (H, W, 3))
    - gt_seg_map (list of np.uint8, shape (H, W))
    - num_objects
    - dataset, sample_idx

    Modified Keys:

    - img, gt_seg_map, num_objects

    Args:
        pre_transform: Configs of the transforms of the second clip: those that stand before this one in the pipeline.
        prob: Probability of merging.
        min_pixels: Pixels that an object must have in the first frame to count.
        max_objects: Most objects of a clip.
        tries: Other entries that are taken.

    Raises:
        ValueError: The clips differ in length or size.
    """

    def __init__(
        self,
        pre_transform: Sequence[dict],
        prob: float = 0.3,
        min_pixels: int = 100,
        max_objects: int = 10,
        tries: int = 10,
    ) -> None:
        self.pre_transform = Compose(list(pre_transform))
        self.prob = prob
        self.min_pixels = min_pixels
        self.max_objects = max_objects
        self.tries = tries

    def transform(self, results: dict) -> dict:
        """Merges one clip with another."""
        if random.random() >= self.prob or len(results['dataset']) < 2:
            return results
        second = self._second(results['dataset'], results['sample_idx'])
        if second is None:
            return results
        shapes = [(len(clip['img']), *clip['img'][0].shape[:2]) for clip in (results, second)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f'clips that are merged must have one length and size, got {shapes[0]} and {shapes[1]} (frames, height,'
                ' width); give pre_transform the transforms that stand before MergeClips'
            )
        frames, masks = [], []
        for frame, mask, frame2, mask2 in zip(
            *(clip[key] for clip in (results, second) for key in ('img', 'gt_seg_map')), strict=True
        ):  # 2.
            pasted = (mask2 > 0) & (mask2 != IGNORED)
            frames.append(np.where(pasted[..., None], frame2, frame))
            masks.append(np.where(pasted, mask2 + results['num_objects'], mask).astype(np.uint8))
        masks, count = number_objects(masks, self.min_pixels, self.max_objects)  # 3.
        results.update(img=frames, gt_seg_map=masks, num_objects=count)
        return results

    def _second(self, dataset, index: int) -> dict | None:
        for _ in range(self.tries):  # 1.
            other = random.randrange(len(dataset) - 1)
            clip = self.pre_transform(dataset.get_data_info(other + (other >= index)))
            if clip is not None:
                return clip
        return None

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(pre_transform={self.pre_transform}, prob={self.prob}, '
            f'min_pixels={self.min_pixels}, max_objects={self.max_objects}, tries={self.tries})'
        )
