"""Resizes the shorter side of an image with Pillow, to the pixel as the released codes do.

Papers: DETR (ECCV 2020), MaskFormer (NeurIPS 2021), Mask2Former (CVPR 2022). Released code: detr's
datasets/transforms.py, ``resize``, and detectron2's ``ResizeShortestEdge``. mmseg's transform of that name resizes with
OpenCV, which does not smooth what it shrinks, and mmcv's Resize rounds where DETR cuts.
"""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS

from mmplugins.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeShorterSide(BaseTransform):
    """Resizes an image so that its shorter side has a length, unless its longer side would exceed a limit.

    The image goes through Pillow, bilinear, which smooths where it shrinks; boxes and masks go as in the toolbox's
    Resize; a map of labels takes the pixel at or before the place, as PyTorch's 'nearest' does, which the released
    codes of semantic segmentation use. It serves as ``resize_type`` of RandomChoiceResize too.

    Required Keys:

    - img (np.uint8)
    - what the toolbox's Resize takes (optional)

    Modified Keys:

    - img, img_shape, gt_seg_map and what the toolbox's Resize changes

    Added Keys:

    - scale, scale_factor, keep_ratio

    Args:
        scale: Length of the shorter side in pixels.
        max_size: Largest length of the longer side; None: no limit.
        cut: Whether the longer side is cut to whole pixels and the limit is kept by the shorter side, as in DETR, so
            that the longer one may exceed it by a pixel; False: rounded, as in detectron2.
    """

    def __init__(self, scale: int, max_size: int | None = None, cut: bool = False) -> None:
        self.scale = scale
        self.max_size = max_size
        self.cut = cut
        self.resize = ROOT_TRANSFORMS.build(dict(type='Resize', scale=(1, 1), keep_ratio=False, backend='pillow'))

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Gives the new width and height of an image, in pixels."""
        shorter, longer = sorted((height, width))
        if self.cut:
            side = self.scale
            if self.max_size is not None and longer / shorter * side > self.max_size:
                side = round(self.max_size * shorter / longer)
            sides = (side, int(side * longer / shorter)) if side else (1, self.max_size)  # of a line, 1 by 1000
        else:
            factor = self.scale / shorter
            new = (self.scale, factor * longer)
            if self.max_size is not None and new[1] > self.max_size:
                new = tuple(length * self.max_size / new[1] for length in new)
            sides = tuple(max(1, int(length + 0.5)) for length in new)
        return sides if width <= height else sides[::-1]

    def transform(self, results: dict) -> dict:
        """Resizes one sample."""
        size = self.resize.scale = self.size_of(*results['img'].shape[:2])
        label = results.get('gt_seg_map')
        if label is None or label.ndim != 2:
            return self.resize(results)
        fields = results.get('seg_fields')
        without = {key: value for key, value in results.items() if key not in ('gt_seg_map', 'seg_fields')}
        results = self.resize(without)
        results['gt_seg_map'] = np.ascontiguousarray(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST))
        if fields is not None:
            results['seg_fields'] = fields
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale}, max_size={self.max_size}, cut={self.cut})'
