"""Data sets; those for segmentation need mmseg."""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import DATASETS

if problem := problem_with('mmseg'):
    BinaryMaskDataset = placeholder('BinaryMaskDataset', DATASETS, 'mmseg', problem)
else:
    from .binary_mask import BinaryMaskDataset

__all__ = ['BinaryMaskDataset']
