"""Parameter schedulers; none of them needs mmdet or mmseg."""

from .shifted_poly_lr import ShiftedPolyLR
from .warmup_poly_lr import WarmupPolyLR

__all__ = ['ShiftedPolyLR', 'WarmupPolyLR']
