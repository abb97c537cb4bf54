"""Match costs; none of them needs mmdet or mmseg."""

from .base import BaseMatchCost
from .bbox_l1_cost import BBoxL1Cost
from .classification_cost import ClassificationCost
from .cross_entropy_loss_cost import CrossEntropyLossCost
from .dice_cost import DiceCost
from .focal_loss_cost import FocalLossCost
from .iou_cost import IoUCost

__all__ = [
    'BBoxL1Cost',
    'BaseMatchCost',
    'ClassificationCost',
    'CrossEntropyLossCost',
    'DiceCost',
    'FocalLossCost',
    'IoUCost',
]
