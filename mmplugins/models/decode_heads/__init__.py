"""Decode heads for mmseg's segmentors. Without mmseg they are placeholders that say what to install."""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import MODELS

__all__ = ['PFNetHead']

_PROBLEM = problem_with('mmseg')
if _PROBLEM is None:
    from .pfnet_head import PFNetHead
else:
    PFNetHead = placeholder('PFNetHead', MODELS, 'mmseg', _PROBLEM)
