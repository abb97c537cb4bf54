"""Match cost of softmax classification: DETR (ECCV 2020), MaskFormer (NeurIPS 2021), Mask2Former (CVPR 2022).

Released code: their matcher.py. Also on stacked decoder layers, in float32; otherwise mmdet's class of the same name.
"""

from torch import Tensor

from mmplugins.functional.sets.costs import classification_cost
from mmplugins.registry import TASK_UTILS

from .base import BaseMatchCost


@TASK_UTILS.register_module()
class ClassificationCost(BaseMatchCost):
    """Minus the softmax probability of the ground truth's class.

    Args:
        weight: Factor of the cost.

    Shape:
        - pred_instances.scores: class logits (Q, C) or (L, Q, C), no-object last where there is one.
        - gt_instances.labels: class indices (G,), int64.
        - Returns (Q, G) or (L, Q, G).

    Raises:
        ValueError: Labels that are not integers (G,).

    Examples:
        >>> import torch
        >>> from mmengine.structures import InstanceData
        >>> pred = InstanceData(scores=torch.zeros(1, 4))
        >>> ClassificationCost(weight=2.0)(pred, InstanceData(labels=torch.tensor([0, 2])))
        tensor([[-0.5000, -0.5000]])
    """

    def __init__(self, weight: float = 1) -> None:
        super().__init__(weight)

    def __call__(self, pred_instances, gt_instances, img_meta: dict | None = None, **kwargs) -> Tensor:
        """Computes the cost of every pair; see the base class."""
        return classification_cost(pred_instances.scores, gt_instances.labels) * self.weight
