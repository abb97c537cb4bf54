"""Transforms of the data pipelines; they need mmcv, the lite one will do."""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import TRANSFORMS

if problem := problem_with('mmcv'):
    ColorJitter = placeholder('ColorJitter', TRANSFORMS, 'mmcv', problem)
    LoadBinaryMask = placeholder('LoadBinaryMask', TRANSFORMS, 'mmcv', problem)
    LoadPanopticAnnotations = placeholder('LoadPanopticAnnotations', TRANSFORMS, 'mmcv', problem)
else:
    from .color_jitter import ColorJitter
    from .load_binary_mask import LoadBinaryMask
    from .load_panoptic_annotations import LoadPanopticAnnotations

__all__ = ['ColorJitter', 'LoadBinaryMask', 'LoadPanopticAnnotations']
