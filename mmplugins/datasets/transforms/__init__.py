"""Transforms of the data pipelines; they need mmcv, the lite one will do."""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import TRANSFORMS

_problem = problem_with('mmcv')
if _problem is None:
    from .color_jitter import ColorJitter
    from .load_binary_mask import LoadBinaryMask
else:
    ColorJitter = placeholder('ColorJitter', TRANSFORMS, 'mmcv', _problem)
    LoadBinaryMask = placeholder('LoadBinaryMask', TRANSFORMS, 'mmcv', _problem)

__all__ = ['ColorJitter', 'LoadBinaryMask']
