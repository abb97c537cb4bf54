"""Match cost of box coordinates: DETR (ECCV 2020).

Released code: models/matcher.py. Also on stacked decoder layers, in float32; otherwise mmdet's class of the same name.
"""

from torch import Tensor

from mmplugins.functional.sets.costs import BOX_FORMATS, box_l1_cost
from mmplugins.registry import TASK_UTILS

from .base import BaseMatchCost, box_tensor


@TASK_UTILS.register_module()
class BBoxL1Cost(BaseMatchCost):
    """Sum of the absolute differences of the box coordinates, as fractions of the image's size.

    Args:
        box_format: What is compared: 'xyxy', the two corners, or 'xywh', centre and size, as DETR does.
        weight: Factor of the cost.

    Shape:
        - pred_instances.bboxes: x1, y1, x2, y2 in pixels, (Q, 4) or (L, Q, 4).
        - gt_instances.bboxes: x1, y1, x2, y2 in pixels, (G, 4).
        - img_meta: holds 'img_shape', height and width in pixels; (1, 1) where boxes are fractions already.
        - Returns (Q, G) or (L, Q, G).

    Raises:
        AssertionError: The box format is unknown.
        ValueError: Boxes without four coordinates, or no image size.

    Examples:
        >>> import torch
        >>> from mmengine.structures import InstanceData
        >>> pred = InstanceData(bboxes=torch.tensor([[0., 0., 5., 4.]]))
        >>> true = InstanceData(bboxes=torch.tensor([[0., 0., 10., 8.]]))
        >>> BBoxL1Cost(box_format='xywh')(pred, true, dict(img_shape=(8, 10)))
        tensor([[1.5000]])
    """

    def __init__(self, box_format: str = 'xyxy', weight: float = 1.0) -> None:
        super().__init__(weight)
        if box_format not in BOX_FORMATS:  # the error's type is mmdet's
            raise AssertionError(f"box_format must be one of {BOX_FORMATS}, got {box_format!r}; DETR compares 'xywh'")
        self.box_format = box_format

    def __call__(self, pred_instances, gt_instances, img_meta: dict | None = None, **kwargs) -> Tensor:
        """Computes the cost of every pair; see the base class."""
        if img_meta is None or 'img_shape' not in img_meta:
            raise ValueError(
                "BBoxL1Cost compares fractions of the image and needs img_meta['img_shape'], (height, width) in "
                f'pixels, got {img_meta}; pass dict(img_shape=(1, 1)) for boxes that are fractions already'
            )
        height, width = img_meta['img_shape'][:2]
        pred, true = box_tensor(pred_instances.bboxes), box_tensor(gt_instances.bboxes)
        return box_l1_cost(pred, true, (width, height), self.box_format) * self.weight
