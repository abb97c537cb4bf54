"""Data sets; they need mmseg."""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import DATASETS

_problem = problem_with('mmseg')
if _problem is None:
    from .binary_mask import BinaryMaskDataset
else:
    BinaryMaskDataset = placeholder('BinaryMaskDataset', DATASETS, 'mmseg', _problem)

__all__ = ['BinaryMaskDataset']
