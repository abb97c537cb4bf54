"""Data sets; those for segmentation need mmseg."""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import DATASETS

if problem := problem_with('mmseg'):
    CamVidDataset = placeholder('CamVidDataset', DATASETS, 'mmseg', problem)
else:
    from .camvid import CamVidDataset

__all__ = ['CamVidDataset']
