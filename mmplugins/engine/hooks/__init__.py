"""Hooks of mmengine's Runner; none of them needs mmdet or mmseg."""

from .iter_seed_hook import IterSeedHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .val_loss_hook import ValLossHook
from .vos_visualization_hook import VOSVisualizationHook

__all__ = ['IterSeedHook', 'SafeCheckpointHook', 'VOSVisualizationHook', 'ValLossHook']
