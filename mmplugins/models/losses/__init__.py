"""Losses; none of them needs mmdet or mmseg."""

from .base import BaseLoss
from .ohem_cross_entropy_loss import OhemCrossEntropyLoss
from .soft_jaccard_loss import SoftJaccardLoss
from .topk_cross_entropy_loss import TopKCrossEntropyLoss

__all__ = ['BaseLoss', 'OhemCrossEntropyLoss', 'SoftJaccardLoss', 'TopKCrossEntropyLoss']
