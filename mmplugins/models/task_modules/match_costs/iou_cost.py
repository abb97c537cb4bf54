"""Match cost of box overlap: DETR (ECCV 2020).

Released code: models/matcher.py. Also on stacked decoder layers, in float32; otherwise mmdet's class of the same name,
but for boxes without a positive width and height, see ``mmplugins.functional.sets.boxes``.
"""

from torch import Tensor

from mmplugins.functional.sets.boxes import OVERLAP_MODES, pairwise_overlap
from mmplugins.registry import TASK_UTILS

from .base import BaseMatchCost, box_tensor


@TASK_UTILS.register_module()
class IoUCost(BaseMatchCost):
    """Minus the overlap of the boxes.

    Args:
        iou_mode: 'giou', generalised intersection over union; 'iou'; or 'iof', intersection over the prediction.
        weight: Factor of the cost.

    Shape:
        - pred_instances.bboxes: x1, y1, x2, y2, (Q, 4) or (L, Q, 4), in any unit.
        - gt_instances.bboxes: x1, y1, x2, y2, (G, 4), in the same unit.
        - Returns (Q, G) or (L, Q, G).

    Raises:
        AssertionError: The mode is unknown (at the call).
        ValueError: Boxes without four coordinates.

    Examples:
        >>> import torch
        >>> from mmengine.structures import InstanceData
        >>> pred = InstanceData(bboxes=torch.tensor([[1., 1., 2., 2.], [2., 2., 3., 4.]]))
        >>> true = InstanceData(bboxes=torch.tensor([[0., 0., 2., 4.]]))
        >>> IoUCost()(pred, true)
        tensor([[-0.1250],
                [ 0.1667]])
    """

    def __init__(self, iou_mode: str = 'giou', weight: float = 1.0) -> None:
        super().__init__(weight)
        self.iou_mode = iou_mode

    def __call__(self, pred_instances, gt_instances, img_meta: dict | None = None, **kwargs) -> Tensor:
        """Computes the cost of every pair; see the base class."""
        if self.iou_mode not in OVERLAP_MODES:  # when and of what type is mmdet's
            raise AssertionError(f"iou_mode must be one of {OVERLAP_MODES}, got {self.iou_mode!r}; DETR uses 'giou'")
        pred, true = box_tensor(pred_instances.bboxes), box_tensor(gt_instances.bboxes)
        return pairwise_overlap(pred, true, self.iou_mode) * -self.weight
