"""Data sets; those of images need mmseg, those of videos mmengine alone."""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import DATASETS

from .vos import VOSDataset

if problem := problem_with('mmseg'):
    BinaryMaskDataset = placeholder('BinaryMaskDataset', DATASETS, 'mmseg', problem)
    CamVidDataset = placeholder('CamVidDataset', DATASETS, 'mmseg', problem)
    StaticVOSDataset = placeholder('StaticVOSDataset', DATASETS, 'mmseg', problem)
else:
    from .binary_mask import BinaryMaskDataset
    from .camvid import CamVidDataset
    from .static_vos import StaticVOSDataset

__all__ = ['BinaryMaskDataset', 'CamVidDataset', 'StaticVOSDataset', 'VOSDataset']
