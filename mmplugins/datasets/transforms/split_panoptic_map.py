"""Makes the targets of panoptic segmentation after the image has been moved.

Papers: MaskFormer (NeurIPS 2021), Mask2Former (CVPR 2022). Released code: detr_panoptic_dataset_mapper.py and
coco_panoptic_new_baseline_dataset_mapper.py, where a segment that the crop left out stays an object of the image, with
an empty mask: its query learns the class, and no pixel.
"""

import numpy as np
from mmcv.transforms import BaseTransform

from mmplugins.functional.segment_images import segment_ids
from mmplugins.hosts import require_host
from mmplugins.registry import TRANSFORMS

from .load_panoptic_annotations import check_segments

IGNORED = 255


@TRANSFORMS.register_module()
class SplitPanopticMap(BaseTransform):
    """Splits a panoptic map into one mask for each segment, things and stuff alike.

    It goes with ``LoadPanopticAnnotations`` of ``split=False`` and mmdet's CocoPanopticDataset, as the last transform
    before PackDetInputs. There are no boxes.

    Required Keys:

    - gt_seg_map (np.uint8), shape (H, W, 3), the segment as red + 256 green + 65536 blue
    - segments_info (id, category, is_thing)

    Added and Modified Keys:

    - gt_masks (BitmapMasks of np.uint8), one for each segment that is no crowd, in the order of segments_info
    - gt_bboxes_labels (np.int64), their classes, things and stuff
    - gt_seg_map (np.uint8), shape (H, W): 255 where no such segment is (void, crowds), else 0. As masks of stuff are
      among the others, mmdet's and our heads must find no stuff here; with ``ignore_aware=True`` ours leave out 255

    Args:
        num_things_classes: Number of classes of things, which come before those of stuff; tells crowds.
        keep_empty: Whether segments without a pixel stay, as in the released code.

    Raises:
        ImportError: mmdet is not installed.
        ValueError: ``gt_seg_map`` is no panoptic map, or the annotations list stuff before things.
    """

    def __init__(self, num_things_classes: int, keep_empty: bool = True) -> None:
        require_host('mmdet', type(self).__name__)
        self.num_things_classes = num_things_classes
        self.keep_empty = keep_empty

    def transform(self, results: dict) -> dict:
        """Makes the targets of one sample."""
        from mmdet.structures.mask import BitmapMasks  # here: the other transforms need no mmdet

        colours = results['gt_seg_map']
        if colours.ndim != 3 or colours.shape[2] != 3:
            raise ValueError(
                f'gt_seg_map must be a panoptic map (H, W, 3), got {colours.shape}; '
                'load it with mmplugins.LoadPanopticAnnotations and split=False'
            )
        check_segments(results, self.num_things_classes)
        ids = segment_ids(colours)
        segments = [one for one in results['segments_info'] if not self._is_crowd(one)]
        masks = np.empty((len(segments), *ids.shape), dtype=np.bool_)
        for mask, segment in zip(masks, segments, strict=True):
            np.equal(ids, segment['id'], out=mask)
        labels = np.array([segment['category'] for segment in segments], dtype=np.int64)
        void = np.where(masks.any(0), np.uint8(0), np.uint8(IGNORED))
        if not self.keep_empty:
            kept = masks.any((1, 2))
            masks, labels = masks[kept], labels[kept]
        results['gt_masks'] = BitmapMasks(masks.view(np.uint8), *ids.shape)
        results['gt_bboxes_labels'] = labels
        results['gt_seg_map'] = void
        results['ignore_index'] = IGNORED
        return results

    def _is_crowd(self, segment: dict) -> bool:
        """Whether it is a crowd: CocoPanopticDataset gives one a thing's class and says that it is no thing."""
        return segment['category'] < self.num_things_classes and not segment['is_thing']

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_things_classes={self.num_things_classes}, keep_empty={self.keep_empty})'
