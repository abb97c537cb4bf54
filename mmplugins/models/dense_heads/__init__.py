"""Dense heads for mmdet's detectors. Without mmdet they are placeholders that say what to install."""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import MODELS

__all__ = ['DETRHead', 'Mask2FormerHead', 'MaskFormerFusionHead', 'MaskFormerHead']

_PROBLEM = problem_with('mmdet')
if _PROBLEM is None:
    from .detr_head import DETRHead
    from .mask2former_head import Mask2FormerHead
    from .maskformer_fusion_head import MaskFormerFusionHead
    from .maskformer_head import MaskFormerHead
else:
    DETRHead, Mask2FormerHead, MaskFormerFusionHead, MaskFormerHead = (
        placeholder(name, MODELS, 'mmdet', _PROBLEM) for name in __all__
    )
