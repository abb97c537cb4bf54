"""Segmentors with a network of their own, and test-time augmentation for mmseg's.

Without mmseg they are placeholders that say what to install.
"""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import MODELS

__all__ = ['AOT', 'ClassMapSegmentor', 'DilatedMobileNetV2', 'SegTTAModel', 'VOSDataPreprocessor']

_PROBLEM = problem_with('mmseg')
if _PROBLEM is None:
    from .aot import AOT, DilatedMobileNetV2, VOSDataPreprocessor
    from .class_map_segmentor import ClassMapSegmentor
    from .seg_tta import SegTTAModel
else:
    AOT, ClassMapSegmentor, DilatedMobileNetV2, SegTTAModel, VOSDataPreprocessor = (
        placeholder(name, MODELS, 'mmseg', _PROBLEM) for name in __all__
    )
