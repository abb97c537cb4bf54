"""Assigners. They are mmdet's; without mmdet, what does not need it works all the same."""

from .batch_hungarian_assigner import BatchHungarianAssigner

__all__ = ['BatchHungarianAssigner']
