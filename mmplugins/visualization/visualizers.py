"""Visualizers over mmdet's; without it they are placeholders that say what to install.

Apart from the package, which metrics and hooks import that need no mmdet.
"""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import VISUALIZERS

__all__ = ['PanopticVisualizer']

_PROBLEM = problem_with('mmdet')
if _PROBLEM is None:
    from .panoptic_visualizer import PanopticVisualizer
else:
    PanopticVisualizer = placeholder('PanopticVisualizer', VISUALIZERS, 'mmdet', _PROBLEM)
