"""Images with masks of their objects, to pre-train video object segmentation on synthetic videos.

Follows the released code of AOT (``dataloaders/train_datasets.py``, ``StaticTrain``). Deliberate differences: images
and masks are paired by name instead of by their order, and binary masks are read by a threshold, so that the grey rims
of saliency masks are no objects.
"""

import numpy as np
from PIL.Image import Image

from mmplugins.registry import DATASETS

from .binary_mask import BinaryMaskDataset
from .clip_source import ClipSource
from .transforms.clip_masks import read_object_mask


@DATASETS.register_module()
class StaticVOSDataset(ClipSource, BinaryMaskDataset):
    """A folder of images and a folder of masks, from which ``SyntheticClip`` makes clips.

    Files are matched and checked as in ``BinaryMaskDataset``. An entry is a video of one frame: ``video_name``, and
    ``img_path`` and ``seg_map_path``, lists of one.

    Args:
        mask_threshold: Grey value, 0 to 255, above which a binary mask's pixel is the object. None: masks are palette
            or grey images of object numbers, 0 background, 1, 2, ... objects, 255 not valid.
        **kwargs: What BinaryMaskDataset takes.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: A folder holds no images, files are at fault, no mask of the set exceeds the threshold, or, without
            one, a mask is grey with smooth edges, a JPEG or of colours without a palette.
    """

    def __init__(self, mask_threshold: int | None = 127, **kwargs) -> None:
        super().__init__(mask_threshold=mask_threshold, **kwargs)

    def _mask_values(self, image: Image, path: str) -> np.ndarray:
        """Returns the grey values of a mask, or, without a threshold, the numbers of its objects."""
        if self.mask_threshold is None:
            return read_object_mask(path, None, self.backend_args)
        return super()._mask_values(image, path)

    def _data_info(self, image: str, mask: str | None) -> dict:
        return dict(video_name=image, img_path=[image], seg_map_path=[mask], mask_threshold=self.mask_threshold)
