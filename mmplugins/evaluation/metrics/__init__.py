"""Metrics; none of them needs mmdet or mmseg."""

from .coco_panoptic_metric import CocoPanopticMetric
from .saliency_metric import SaliencyMetric
from .vos_metric import VOSMetric

__all__ = ['CocoPanopticMetric', 'SaliencyMetric', 'VOSMetric']
