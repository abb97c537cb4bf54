"""Parameter schedulers; none of them needs mmdet or mmseg."""

from .shifted_poly_lr import ShiftedPolyLR

__all__ = ['ShiftedPolyLR']
