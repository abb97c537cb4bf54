"""Metrics; none of them needs mmdet or mmseg."""

from .coco_panoptic_metric import CocoPanopticMetric
from .saliency_metric import SaliencyMetric

__all__ = ['CocoPanopticMetric', 'SaliencyMetric']
