"""Backbones for mmseg and mmdet; they need mmcv (mmcv-lite will do). Without it they are placeholders.

Importing this package also teaches mmengine to read ``package://NAME`` as a checkpoint.
"""

import mmplugins.registry  # noqa: F401, first: it says what to install where mmengine is missing
from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import MODELS

from .package_weights import load_from_package  # noqa: F401, registers the scheme

__all__ = ['EfficientNetLite']

if (_PROBLEM := problem_with('mmcv')) is None:
    from .efficientnet_lite import EfficientNetLite
else:
    EfficientNetLite = placeholder('EfficientNetLite', MODELS, 'mmcv', _PROBLEM)
