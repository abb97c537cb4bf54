"""Losses; none of them needs mmdet or mmseg."""

from .base import BaseLoss

__all__ = ['BaseLoss']
