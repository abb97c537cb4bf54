"""Assigners. They are mmdet's; without mmdet, what does not need it works all the same."""

import mmplugins.registry  # noqa: F401, first: it says what to install where mmengine is missing

from .batch_hungarian_assigner import BatchHungarianAssigner

__all__ = ['BatchHungarianAssigner']
