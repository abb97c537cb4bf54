"""Losses; none of them needs mmdet or mmseg."""

import mmplugins.registry  # noqa: F401, first: it says what to install where mmengine is missing

from .base import BaseLoss
from .bce_iou_loss import BCEIoULoss
from .dense_mask_loss import DenseMaskLoss
from .ohem_cross_entropy_loss import OhemCrossEntropyLoss
from .point_sampled_mask_loss import PointSampledMaskLoss
from .set_criterion import SetCriterion
from .soft_iou_loss import SoftIoULoss
from .soft_jaccard_loss import SoftJaccardLoss
from .structure_loss import StructureLoss
from .topk_cross_entropy_loss import TopKCrossEntropyLoss

__all__ = [
    'BCEIoULoss',
    'BaseLoss',
    'DenseMaskLoss',
    'OhemCrossEntropyLoss',
    'PointSampledMaskLoss',
    'SetCriterion',
    'SoftIoULoss',
    'SoftJaccardLoss',
    'StructureLoss',
    'TopKCrossEntropyLoss',
]
