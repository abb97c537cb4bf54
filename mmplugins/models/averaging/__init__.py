"""Averages of a model's weights over the training; none of them needs mmdet or mmseg."""

import mmplugins.registry  # noqa: F401, first: it says what to install where mmengine is missing

from .warmup_ema import WarmupEMA

__all__ = ['WarmupEMA']
