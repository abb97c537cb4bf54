"""Metrics; none of them needs mmdet or mmseg."""

from .saliency_metric import SaliencyMetric

__all__ = ['SaliencyMetric']
