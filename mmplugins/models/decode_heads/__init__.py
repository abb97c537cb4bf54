"""Decode heads for mmseg's segmentors. Without mmseg they are placeholders that say what to install."""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import MODELS

__all__ = ['FPNSegmentationHead', 'PFNetHead']

_PROBLEM = problem_with('mmseg')
if _PROBLEM is None:
    from .fpn_segmentation_head import FPNSegmentationHead
    from .pfnet_head import PFNetHead
else:
    FPNSegmentationHead = placeholder('FPNSegmentationHead', MODELS, 'mmseg', _PROBLEM)
    PFNetHead = placeholder('PFNetHead', MODELS, 'mmseg', _PROBLEM)
