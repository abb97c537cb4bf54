"""Hooks of mmengine's Runner; none of them needs mmdet or mmseg."""

from .iter_seed_hook import IterSeedHook
from .loss_picture_hook import LossPictureHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .val_loss_hook import ValLossHook
from .vos_visualization_hook import VOSVisualizationHook

__all__ = ['IterSeedHook', 'LossPictureHook', 'SafeCheckpointHook', 'VOSVisualizationHook', 'ValLossHook']
