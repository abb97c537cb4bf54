"""Transforms of the data pipelines; they need mmcv, the lite one will do."""

from mmplugins.hosts import placeholder, problem_with
from mmplugins.registry import TRANSFORMS

if problem := problem_with('mmcv'):
    ColorJitter = placeholder('ColorJitter', TRANSFORMS, 'mmcv', problem)
    LoadBinaryMask = placeholder('LoadBinaryMask', TRANSFORMS, 'mmcv', problem)
    LoadClip = placeholder('LoadClip', TRANSFORMS, 'mmcv', problem)
    LoadClipMasks = placeholder('LoadClipMasks', TRANSFORMS, 'mmcv', problem)
    LoadPanopticAnnotations = placeholder('LoadPanopticAnnotations', TRANSFORMS, 'mmcv', problem)
    MergeClips = placeholder('MergeClips', TRANSFORMS, 'mmcv', problem)
    PackClip = placeholder('PackClip', TRANSFORMS, 'mmcv', problem)
    RandomCropClip = placeholder('RandomCropClip', TRANSFORMS, 'mmcv', problem)
    RasterizeInstances = placeholder('RasterizeInstances', TRANSFORMS, 'mmcv', problem)
    ResizeClip = placeholder('ResizeClip', TRANSFORMS, 'mmcv', problem)
    ResizeShorterSide = placeholder('ResizeShorterSide', TRANSFORMS, 'mmcv', problem)
    SampleClip = placeholder('SampleClip', TRANSFORMS, 'mmcv', problem)
    SoftMask = placeholder('SoftMask', TRANSFORMS, 'mmcv', problem)
    SplitPanopticMap = placeholder('SplitPanopticMap', TRANSFORMS, 'mmcv', problem)
    SyntheticClip = placeholder('SyntheticClip', TRANSFORMS, 'mmcv', problem)
else:
    import mmcv

    from .color_jitter import ColorJitter
    from .load_binary_mask import LoadBinaryMask
    from .load_clip import LoadClip, LoadClipMasks
    from .load_panoptic_annotations import LoadPanopticAnnotations
    from .merge_clips import MergeClips
    from .pack_clip import PackClip
    from .random_crop_clip import RandomCropClip
    from .rasterize_instances import RasterizeInstances
    from .resize_clip import ResizeClip
    from .resize_shorter_side import ResizeShorterSide
    from .sample_clip import SampleClip
    from .shared_numbers import mend_shared_numbers
    from .soft_mask import SoftMask
    from .split_panoptic_map import SplitPanopticMap
    from .synthetic_clip import SyntheticClip

    mend_shared_numbers(mmcv.__version__)

__all__ = [
    'ColorJitter',
    'LoadBinaryMask',
    'LoadClip',
    'LoadClipMasks',
    'LoadPanopticAnnotations',
    'MergeClips',
    'PackClip',
    'RandomCropClip',
    'RasterizeInstances',
    'ResizeClip',
    'ResizeShorterSide',
    'SampleClip',
    'SoftMask',
    'SplitPanopticMap',
    'SyntheticClip',
]
