"""Match cost of the sigmoid focal loss: labels in Deformable DETR (ICLR 2021), masks in MaskFormer (NeurIPS 2021).

Released code: their matcher.py. Also on stacked decoder layers, in float32, with ignored points; otherwise mmdet's
class of the same name.
"""

from torch import Tensor

from mmplugins.functional.sets.costs import focal_label_cost, focal_mask_cost
from mmplugins.registry import TASK_UTILS

from .base import BaseMatchCost, flat_masks


@TASK_UTILS.register_module()
class FocalLossCost(BaseMatchCost):
    """Sigmoid focal loss: its mean over the points of masks, or what a label changes in it.

    Args:
        alpha: Factor of the loss of a 1; that of a 0 is 1 - alpha.
        gamma: Power of the probability of the wrong answer.
        eps: Smallest probability of which a logarithm is taken.
        binary_input: True compares masks, False labels.
        weight: Factor of the cost.

    Shape:
        - pred_instances.scores: class logits (Q, C) or (L, Q, C), for ``binary_input=False``.
        - gt_instances.labels: class indices (G,), int64, for ``binary_input=False``.
        - pred_instances.masks: logits (Q, P) or (Q, h, w), stacked (L, Q, P) or (L, Q, h, w).
        - gt_instances.masks: values in [0, 1], any dtype, (G, P) or (G, h, w), stacked (L, G, P) or (L, G, h, w).
        - valid: keyword; weight of each point, 0 or False if ignored, (P,) or (h, w), stacked (L, P) or (L, h, w).
        - stacked: keyword; whether predictions are of all layers.
        - Returns (Q, G) or (L, Q, G).

    Raises:
        ValueError: Numbers of points differ, or labels that are not integers (G,).

    Examples:
        >>> import torch
        >>> from mmengine.structures import InstanceData
        >>> pred, true = InstanceData(scores=torch.zeros(1, 3)), InstanceData(labels=torch.tensor([0, 2]))
        >>> FocalLossCost()(pred, true)
        tensor([[-0.0866, -0.0866]])
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2,
        eps: float = 1e-12,
        binary_input: bool = False,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self.alpha = alpha
        self.gamma = gamma
        self.eps = eps
        self.binary_input = binary_input

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
        settings = self.alpha, self.gamma, self.eps
        if not self.binary_input:
            return focal_label_cost(pred_instances.scores, gt_instances.labels, *settings) * self.weight
        return focal_mask_cost(*flat_masks(pred_instances, gt_instances, valid, stacked), *settings) * self.weight
