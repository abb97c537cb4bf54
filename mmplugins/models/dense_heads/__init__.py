"""Dense heads for mmdet's detectors. Without mmdet they are placeholders that say what to install."""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import MODELS

__all__ = ['DETRHead']

_PROBLEM = problem_with('mmdet')
if _PROBLEM is None:
    from .detr_head import DETRHead
else:
    DETRHead = placeholder('DETRHead', MODELS, 'mmdet', _PROBLEM)
