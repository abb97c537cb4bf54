"""Makes the masks of instances after the image has been moved.

Paper: Mask2Former (CVPR 2022). Released code: coco_instance_new_baseline_dataset_mapper.py, which moves the outlines
and draws them last. mmdet draws them at the image's own size and resizes the masks, which makes steps where an image
grows and loses thin parts where it shrinks. Deliberate differences: crowds are kept as ignored instances; an instance
of which no pixel is left is dropped, in the released code one of which no part of the outline is left; outlines are not
cut at the border before they are drawn.
"""

import numpy as np
from mmcv.transforms import BaseTransform

from mmplugins.hosts import require_host
from mmplugins.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RasterizeInstances(BaseTransform):
    """Moves the outlines of instances as mmdet's transforms have moved the image, and draws them.

    It takes LoadAnnotations' place, as the last transform before PackDetInputs, after any of mmdet's RandomFlip,
    Resize, RandomResize and RandomCrop. There are no boxes. An image without instances stays.

    Required Keys:

    - instances (bbox_label, ignore_flag, mask: polygons, or COCO's run-length encoding)
    - ori_shape, img_shape
    - homography_matrix (optional), as mmdet's transforms record it

    Added Keys:

    - gt_masks (BitmapMasks of np.uint8), gt_bboxes_labels (np.int64), gt_ignore_flags (bool)

    Raises:
        ImportError: mmdet is not installed.
        ValueError: The image was turned or sheared.
    """

    def __init__(self) -> None:
        require_host('mmdet', type(self).__name__)

    def transform(self, results: dict) -> dict:
        """Makes the masks of one sample."""
        from mmdet.structures.mask import BitmapMasks  # here: the other transforms need no mmdet

        matrix = np.asarray(results.get('homography_matrix', np.eye(3)), dtype=np.float64)
        if matrix[0, 1] or matrix[1, 0] or (matrix[2] != (0, 0, 1)).any():
            raise ValueError(
                f'RasterizeInstances knows flips, resizes and crops, got the matrix {matrix.tolist()}; '
                'for other transforms load masks with LoadAnnotations'
            )
        size = tuple(results['img_shape'][:2])
        masks, labels, ignored = [], [], []
        for instance in results.get('instances', []):
            mask = draw(instance.get('mask'), matrix, tuple(results['ori_shape'][:2]), size)
            if mask is not None and mask.any():
                masks.append(mask)
                labels.append(instance['bbox_label'])
                ignored.append(instance['ignore_flag'])
        results['gt_masks'] = BitmapMasks(masks, *size)
        results['gt_bboxes_labels'] = np.array(labels, dtype=np.int64)
        results['gt_ignore_flags'] = np.array(ignored, dtype=bool)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def draw(
    outline: list | dict | None, matrix: np.ndarray, ori_shape: tuple[int, int], size: tuple[int, int]
) -> np.ndarray | None:
    """Draws an instance in a moved image.

    Args:
        outline: Polygons, each x,y,x,y,... in pixels of the original image; or a run-length encoding of a mask of it.
        matrix: From places in the original image to those in the moved one, scale and shift alone, (3, 3).
        ori_shape: Height and width of the original image.
        size: Height and width of the moved one.

    Returns:
        Mask, np.uint8, of that size; None if there is no valid polygon.
    """
    from pycocotools import mask as coco

    scale, shift = matrix.diagonal()[:2], matrix[:2, 2]  # of x and y
    if isinstance(outline, dict):
        if isinstance(outline['counts'], list):
            outline = coco.frPyObjects(outline, *ori_shape)
        x, y = (
            np.floor((np.arange(length) + 0.5 - start) / factor).astype(np.int64)
            for length, start, factor in zip(size[::-1], shift, scale, strict=True)
        )
        inside = ((y >= 0) & (y < ori_shape[0]))[:, None] & ((x >= 0) & (x < ori_shape[1]))
        rows, columns = y.clip(0, ori_shape[0] - 1), x.clip(0, ori_shape[1] - 1)
        return coco.decode(outline)[rows[:, None], columns] * inside.astype(np.uint8)
    valid = [polygon for polygon in outline or [] if len(polygon) % 2 == 0 and len(polygon) >= 6]
    if not valid:
        return None
    moved = [(np.reshape(polygon, (-1, 2)) * scale + shift).ravel().tolist() for polygon in valid]
    return coco.decode(coco.merge(coco.frPyObjects(moved, *size)))
