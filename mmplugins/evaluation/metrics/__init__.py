"""Metrics; none of them needs mmdet or mmseg."""

import mmplugins.registry  # noqa: F401, first: it says what to install where mmengine is missing

from .coco_panoptic_metric import CocoPanopticMetric
from .saliency_metric import SaliencyMetric
from .vos_metric import VOSMetric

__all__ = ['CocoPanopticMetric', 'SaliencyMetric', 'VOSMetric']
