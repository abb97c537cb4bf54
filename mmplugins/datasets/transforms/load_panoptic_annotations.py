"""Loads panoptic annotations without panopticapi, which mmdet's transform of the same name needs.

Deliberate differences from mmdet's: the semantic map is uint8, not int64; crowds can be marked as not valid.
"""

import logging

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from mmengine.logging import print_log

from mmplugins.functional.segment_images import check_colours, segment_ids
from mmplugins.hosts import require_host
from mmplugins.registry import TRANSFORMS

from .image_files import check_not_turned, open_image, orientation_of, turned_message

IGNORED = 255


@TRANSFORMS.register_module()
class LoadPanopticAnnotations(BaseTransform):
    """Loads boxes, labels and masks of things, and the semantic map of things and stuff, from a panoptic PNG.

    It goes with mmdet's CocoPanopticDataset. In the semantic map, 255 is void: pixels that no segment of the
    annotations covers and, if ``num_things_classes`` is given, crowds, which the data set leaves out of the instances.
    Heads with ``ignore_aware=True`` do not count these pixels in matching and losses. Each process that loads
    tells once in the log of segments that are in the PNG alone.

    Required Keys:

    - instances (bbox, bbox_label, ignore_flag)
    - segments_info (id, category, is_thing)
    - seg_map_path; without it nothing but boxes and labels is loaded
    - ori_shape

    ``split=False`` leaves the PNG as it is, an image in ``gt_seg_map`` that flips, resizes and crops move along, for
    ``SplitPanopticMap`` after them: faster than moving a mask for each thing, and no segment is lost on the way.

    Added Keys:

    - gt_bboxes (BaseBoxes[torch.float32]), gt_bboxes_labels (np.int64), gt_ignore_flags (bool)
    - gt_masks (BitmapMasks of np.uint8), one for each instance
    - gt_seg_map (np.uint8), shape (H, W); with ``split=False`` (H, W, 3), RGB, and no other key

    Args:
        with_bbox: Whether to load boxes.
        with_label: Whether to load labels.
        with_mask: Whether to load masks.
        with_seg: Whether to load the semantic map.
        box_type: mmdet's type of boxes.
        num_things_classes: Number of classes of things, which come before those of stuff; None: crowds keep their
            class in the semantic map.
        split: Whether to make boxes, labels, masks and the semantic map now.
        backend_args: Arguments of mmengine's file backend.

    Raises:
        ImportError: mmdet is not installed.
        ValueError: The PNG is grey, of another size than its image, or lacks a segment of the annotations; a class does
            not fit into the semantic map; or the annotations list stuff before things.
    """

    def __init__(
        self,
        with_bbox: bool = True,
        with_label: bool = True,
        with_mask: bool = True,
        with_seg: bool = True,
        box_type: str = 'hbox',
        num_things_classes: int | None = None,
        split: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        require_host('mmdet', type(self).__name__)
        from mmdet.datasets.transforms import LoadAnnotations  # here: the other transforms need no mmdet

        self.load_boxes = LoadAnnotations(with_bbox=with_bbox, with_label=with_label, box_type=box_type)
        self.with_mask = with_mask
        self.with_seg = with_seg
        self.num_things_classes = num_things_classes
        self.split = split
        self.backend_args = backend_args
        self._told = False

    def transform(self, results: dict) -> dict:
        """Loads the annotations of one sample."""
        if not self.split:
            check_segments(results, self.num_things_classes)
            results['gt_seg_map'] = self._read(results)
            ids = segment_ids(results['gt_seg_map'])  # here: after crops an empty segment says nothing
            counts = [check_pixels(results, segment, ids == segment['id']) for segment in results['segments_info']]
            self._tell_unlisted(results, ids, sum(counts))
            return results
        results = self.load_boxes(results)
        if (self.with_mask or self.with_seg) and results.get('seg_map_path') is not None:
            self._load_segments(results)
        return results

    def _read(self, results: dict) -> np.ndarray:
        """Reads the PNG, RGB, uint8 (H, W, 3)."""
        path = results.get('seg_map_path')
        if path is None:
            raise ValueError(f'{results.get("img_path")} has no seg_map_path: set data_prefix.seg of the data set')
        check_not_turned(results)
        with open_image(path, self.backend_args) as image:
            check_colours(image.mode, path)
            colours = np.array(image.convert('RGB'))
        if colours.shape[:2] != tuple(results['ori_shape'][:2]):
            raise ValueError(
                f'{path} is {colours.shape[:2]}, its image {results.get("img_path")} '
                f'{tuple(results["ori_shape"][:2])} (height, width){self._turn(results, colours.shape[:2])}'
            )
        return colours

    def _turn(self, results: dict, size: tuple[int, int]) -> str:
        """Says whether an orientation tag explains that an image has another size than its PNG, (H, W)."""
        path = results.get('img_path')
        if not path or size != tuple(results['ori_shape'][1::-1]) or not fileio.exists(path, self.backend_args):
            return ''
        with open_image(path, self.backend_args) as image:
            tag = orientation_of(image)
        return '' if tag == 1 else f'; {turned_message(path, tag)}'

    def _load_segments(self, results: dict) -> None:
        """Reads the PNG and makes the masks and the semantic map."""
        ids = segment_ids(self._read(results))
        masks, semantic, pixels = [], np.full(ids.shape, IGNORED, dtype=np.uint8), 0
        check_segments(results, self.num_things_classes)
        for segment in results['segments_info']:
            mask = ids == segment['id']
            pixels += check_pixels(results, segment, mask)
            if self.with_seg and segment['category'] >= IGNORED:
                raise ValueError(
                    f'{results["seg_map_path"]} has a segment of class {segment["category"]}, but a semantic map holds '
                    f'classes up to {IGNORED - 1}, {IGNORED} is void; use split=False and SplitPanopticMap, or fewer '
                    'classes'
                )
            if segment['is_thing']:
                masks.append(mask.view(np.uint8))
            if self.with_seg and (segment['is_thing'] or not self._is_thing_class(segment['category'])):
                semantic[mask] = segment['category']
        self._tell_unlisted(results, ids, pixels)
        if self.with_mask:
            from mmdet.structures.mask import BitmapMasks

            results['gt_masks'] = BitmapMasks(masks, *ids.shape)
        if self.with_seg:
            results['gt_seg_map'] = semantic
            results['ignore_index'] = IGNORED

    def _tell_unlisted(self, results: dict, ids: np.ndarray, listed: int) -> None:
        """Logs once that a PNG has segments which the annotations do not list, if some pixels belong to none."""
        if self._told or listed + np.count_nonzero(ids == 0) == ids.size:
            return
        unlisted = sorted(set(np.unique(ids).tolist()) - {0} - {one['id'] for one in results['segments_info']})
        if not unlisted:
            return
        self._told = True
        print_log(
            f'data: {results["seg_map_path"]} has segments that the annotations do not list, or list with an area '
            f'of 0 or a box without extent, such as {unlisted[0]}; their pixels are void. Take file and annotations '
            'from one source',
            logger='current',
            level=logging.WARNING,
        )

    def _is_thing_class(self, category: int) -> bool:
        return self.num_things_classes is not None and category < self.num_things_classes

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(with_bbox={self.load_boxes.with_bbox}, with_label={self.load_boxes.with_label}, '
            f'with_mask={self.with_mask}, with_seg={self.with_seg}, num_things_classes={self.num_things_classes}, '
            f'split={self.split}, backend_args={self.backend_args})'
        )


def check_pixels(results: dict, segment: dict, mask: np.ndarray) -> int:
    """Counts the pixels of a segment's mask, bool (H, W); raises ValueError if it has none in the image as stored."""
    count = np.count_nonzero(mask)
    if not count:
        raise ValueError(
            f'{results["seg_map_path"]} has no pixel of segment {segment["id"]}, which the annotations list for '
            f'{results.get("img_path")}; they must be of one version, and segments red + 256 green + 65536 blue'
        )
    return count


def check_segments(results: dict, num_things_classes: int | None) -> None:
    """Raises ValueError if things have classes that are those of stuff, because the annotations list stuff first."""
    things = [one['category'] for one in results['segments_info'] if one['is_thing']]
    wrong = [category for category in things if num_things_classes is not None and category >= num_things_classes]
    if wrong:
        raise ValueError(
            f'{results.get("img_path")} has a thing of class {wrong[0]}, but things are the classes 0 to '
            f'{num_things_classes - 1} (num_things_classes={num_things_classes}); classes are in the order of the '
            "annotations' categories: list things before stuff there and in metainfo"
        )
