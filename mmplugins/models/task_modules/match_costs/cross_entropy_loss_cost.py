"""Match cost of binary mask cross entropy: Mask2Former (CVPR 2022).

Released code: mask2former/modeling/matcher.py. Also on stacked decoder layers, in float32, with ignored points;
otherwise mmdet's class of the same name.
"""

from torch import Tensor

from mmplugins.functional.sets.costs import bce_mask_cost
from mmplugins.registry import TASK_UTILS

from .base import BaseMatchCost, flat_masks


@TASK_UTILS.register_module()
class CrossEntropyLossCost(BaseMatchCost):
    """Mean binary cross entropy between masks.

    Args:
        use_sigmoid: Must be True, as in mmdet: predictions are logits of a sigmoid.
        weight: Factor of the cost.

    Shape:
        - pred_instances.masks: logits (Q, P) or (Q, h, w), stacked (L, Q, P) or (L, Q, h, w).
        - gt_instances.masks: values in [0, 1], any dtype, (G, P) or (G, h, w), stacked (L, G, P) or (L, G, h, w).
        - valid: keyword; weight of each point, 0 or False if ignored, (P,) or (h, w), stacked (L, P) or (L, h, w).
        - stacked: keyword; whether predictions are of all layers.
        - Returns (Q, G) or (L, Q, G); 0 where all points are ignored.

    Raises:
        NotImplementedError: ``use_sigmoid`` is False (at the call).
        ValueError: Numbers of points differ.

    Examples:
        >>> import torch
        >>> from mmengine.structures import InstanceData
        >>> pred, true = InstanceData(masks=torch.zeros(1, 4)), InstanceData(masks=torch.eye(2, 4).bool())
        >>> CrossEntropyLossCost()(pred, true)
        tensor([[0.6931, 0.6931]])
    """

    def __init__(self, use_sigmoid: bool = True, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.use_sigmoid = use_sigmoid

    def __call__(
        self,
        pred_instances,
        gt_instances,
        img_meta: dict | None = None,
        valid: Tensor | None = None,
        stacked: bool = False,
        **kwargs,
    ) -> Tensor:
        """Computes the cost of every pair; see the base class."""
        if not self.use_sigmoid:
            raise NotImplementedError(
                'CrossEntropyLossCost compares binary masks and expects use_sigmoid=True, got False; '
                'use ClassificationCost for a softmax over classes'
            )
        return bce_mask_cost(*flat_masks(pred_instances, gt_instances, valid, stacked)) * self.weight
