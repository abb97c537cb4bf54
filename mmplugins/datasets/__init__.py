"""Data sets; those for segmentation need mmseg."""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import DATASETS

if problem := problem_with('mmseg'):
    BinaryMaskDataset = placeholder('BinaryMaskDataset', DATASETS, 'mmseg', problem)
    CamVidDataset = placeholder('CamVidDataset', DATASETS, 'mmseg', problem)
else:
    from .binary_mask import BinaryMaskDataset
    from .camvid import CamVidDataset

__all__ = ['BinaryMaskDataset', 'CamVidDataset']
