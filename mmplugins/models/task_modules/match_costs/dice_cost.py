"""Match cost of the dice loss: MaskFormer (NeurIPS 2021), Mask2Former (CVPR 2022).

Released code: their matcher.py, which is ``pred_act=True, eps=1``. Also on stacked decoder layers, in float32, with
ignored points; otherwise mmdet's class of the same name.
"""

from torch import Tensor

from mmplugins.functional.sets.costs import dice_mask_cost
from mmplugins.registry import TASK_UTILS

from .base import BaseMatchCost, flat_masks


@TASK_UTILS.register_module()
class DiceCost(BaseMatchCost):
    """Dice loss between masks.

    Args:
        pred_act: Whether predictions are logits, which go through a sigmoid; else they are probabilities.
        eps: Smoothing term of numerator and denominator.
        naive_dice: False squares both masks in the denominator.
        weight: Factor of the cost.

    Shape:
        - pred_instances.masks: (Q, P) or (Q, h, w), stacked (L, Q, P) or (L, Q, h, w).
        - gt_instances.masks: values in [0, 1], any dtype, (G, P) or (G, h, w), stacked (L, G, P) or (L, G, h, w).
        - valid: keyword; weight of each point, 0 or False if ignored, (P,) or (h, w), stacked (L, P) or (L, h, w).
        - stacked: keyword; whether predictions are of all layers.
        - Returns (Q, G) or (L, Q, G).

    Raises:
        ValueError: Numbers of points differ.

    Examples:
        >>> import torch
        >>> from mmengine.structures import InstanceData
        >>> pred, true = InstanceData(masks=torch.ones(1, 4)), InstanceData(masks=torch.ones(1, 4).bool())
        >>> DiceCost()(pred, true)
        tensor([[0.]])
    """

    def __init__(self, pred_act: bool = False, eps: float = 1e-3, naive_dice: bool = True, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.pred_act = pred_act
        self.eps = eps
        self.naive_dice = naive_dice

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
        masks = flat_masks(pred_instances, gt_instances, valid, stacked)
        return dice_mask_cost(*masks, self.eps, self.naive_dice, self.pred_act) * self.weight
