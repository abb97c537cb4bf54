"""Losses; none of them needs mmdet or mmseg."""

from .base import BaseLoss
from .bce_iou_loss import BCEIoULoss
from .ohem_cross_entropy_loss import OhemCrossEntropyLoss
from .set_criterion import SetCriterion
from .soft_iou_loss import SoftIoULoss
from .soft_jaccard_loss import SoftJaccardLoss
from .structure_loss import StructureLoss
from .topk_cross_entropy_loss import TopKCrossEntropyLoss

__all__ = [
    'BCEIoULoss',
    'BaseLoss',
    'OhemCrossEntropyLoss',
    'SetCriterion',
    'SoftIoULoss',
    'SoftJaccardLoss',
    'StructureLoss',
    'TopKCrossEntropyLoss',
]
