"""Textured shapes, half-width ResNet-18 from scratch with OHEM.

The same as configs/pspnet/pspnet_r18-d8_w32-ohem_1xb8-400_sample-96x128.py.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.sample_96x128 import *
    from .._base_.default_runtime import *
    from .._base_.models.pspnet_r18_d8_w32 import *

from mmengine.hooks import CheckpointHook, DistSamplerSeedHook, IterTimerHook, LoggerHook, ParamSchedulerHook
from mmengine.optim import LinearLR, OptimWrapper, PolyLR
from mmengine.runner import IterBasedTrainLoop, TestLoop, ValLoop
from mmseg.engine import SegVisualizationHook
from torch.optim import AdamW

from mmplugins.engine.hooks import LossPictureHook, ValLossHook
from mmplugins.models.losses import OhemCrossEntropyLoss

max_iters = 400
num_classes = 8

randomness = dict(seed=0)
model.update(
    dict(
        data_preprocessor=dict(size=(96, 128)),
        decode_head=dict(num_classes=num_classes),
        auxiliary_head=dict(num_classes=num_classes),
    )
)
# set, not updated: nothing of the loss before stays
model['decode_head']['loss_decode'] = dict(type=OhemCrossEntropyLoss, thresh=0.7, min_kept=0.1)

optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=0.002, weight_decay=0.01), clip_grad=None)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.1, begin=0, end=20, by_epoch=False),
    dict(type=PolyLR, eta_min=0.0, power=0.9, begin=20, end=max_iters, by_epoch=False),
]
train_cfg = dict(type=IterBasedTrainLoop, max_iters=max_iters, val_interval=100)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
log_processor = dict(by_epoch=False)
default_hooks = dict(
    timer=dict(type=IterTimerHook),
    logger=dict(type=LoggerHook, interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=CheckpointHook, by_epoch=False, interval=max_iters, save_best='mIoU'),
    sampler_seed=dict(type=DistSamplerSeedHook),
    visualization=dict(type=SegVisualizationHook),
)
custom_hooks = [*custom_hooks, dict(type=ValLossHook), dict(type=LossPictureHook, interval=100)]
