"""Decode heads for mmseg's segmentors. Without mmseg they are placeholders that say what to install.

``Mask2FormerSegHead`` and ``MaskFormerSegHead`` stand on mmdet's heads too.
"""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import MODELS

__all__ = [
    'FPNSegmentationHead',
    'LowResolutionLossHead',
    'Mask2FormerSegHead',
    'MaskFormerSegHead',
    'PFNetHead',
]

_HOST, _PROBLEM = 'mmseg', problem_with('mmseg')
if _PROBLEM is None:
    from .fpn_segmentation_head import FPNSegmentationHead
    from .low_resolution_loss import LowResolutionLossHead
    from .pfnet_head import PFNetHead

    _HOST, _PROBLEM = 'mmdet', problem_with('mmdet')
else:
    FPNSegmentationHead, LowResolutionLossHead, PFNetHead = (
        placeholder(name, MODELS, _HOST, _PROBLEM)
        for name in ('FPNSegmentationHead', 'LowResolutionLossHead', 'PFNetHead')
    )

if _PROBLEM is None:
    from .mask_seg_heads import Mask2FormerSegHead, MaskFormerSegHead
else:
    Mask2FormerSegHead, MaskFormerSegHead = (
        placeholder(name, MODELS, _HOST, _PROBLEM) for name in ('Mask2FormerSegHead', 'MaskFormerSegHead')
    )
