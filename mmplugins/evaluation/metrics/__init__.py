"""Metrics; ``IoUMetric`` needs mmseg, and is a placeholder without it that says what to install."""

import mmplugins.registry  # first: it says what to install where mmengine is missing
from mmplugins.hosts import placeholder, problem_with

from .coco_panoptic_metric import CocoPanopticMetric
from .saliency_metric import SaliencyMetric
from .vos_metric import VOSMetric

if problem := problem_with('mmseg'):
    IoUMetric = placeholder('IoUMetric', mmplugins.registry.METRICS, 'mmseg', problem)
else:
    from .iou_metric import IoUMetric

__all__ = ['CocoPanopticMetric', 'IoUMetric', 'SaliencyMetric', 'VOSMetric']
