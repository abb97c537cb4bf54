"""Inference in a program, with the interfaces of the toolboxes' own inferencers; each needs its toolbox alone."""

from mmplugins.hosts import require_host

__all__ = ['DetInferencer', 'SegInferencer']


def __getattr__(name: str) -> type:
    """Imports an inferencer at its first use.

    Raises:
        ImportError: Its toolbox is missing.
    """
    if name == 'DetInferencer':
        require_host('mmdet', name)
        from .det_inferencer import DetInferencer

        return DetInferencer
    if name == 'SegInferencer':
        require_host('mmseg', name)
        from .seg_inferencer import SegInferencer

        return SegInferencer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
