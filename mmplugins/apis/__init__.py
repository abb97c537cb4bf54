"""Inference in a program, with mmdet's interface."""

from mmplugins.hosts import require_host

require_host('mmdet', 'DetInferencer')

from .det_inferencer import DetInferencer  # noqa: E402

__all__ = ['DetInferencer']
