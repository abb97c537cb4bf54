"""Averages of a model's weights over the training; none of them needs mmdet or mmseg."""

from .warmup_ema import WarmupEMA

__all__ = ['WarmupEMA']
