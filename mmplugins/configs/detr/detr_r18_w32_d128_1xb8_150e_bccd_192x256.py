"""Blood cells with a small DETR from scratch, for two CPU cores.

The same as configs/detr/detr_r18_w32-d128_1xb8-150e_bccd-192x256.py.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.bccd_192x256 import *
    from .._base_.default_runtime_det import *
    from .._base_.models.detr_r18_w32 import *

from mmdet.engine import DetVisualizationHook
from mmengine.hooks import CheckpointHook, DistSamplerSeedHook, IterTimerHook, LoggerHook, ParamSchedulerHook
from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, TestLoop, ValLoop
from torch.optim import AdamW

max_epochs = 150

randomness = dict(seed=0)
model.update(dict(bbox_head=dict(num_classes=3)))

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=0.0005, weight_decay=0.0001),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=None,
)
param_scheduler = [
    dict(type=LinearLR, start_factor=0.01, begin=0, end=4, by_epoch=True, convert_to_iter_based=True),
    dict(
        type=CosineAnnealingLR,
        eta_min=0.0,
        begin=4,
        end=max_epochs,
        T_max=max_epochs - 4,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=max_epochs, val_interval=10)
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
log_processor = dict(by_epoch=True)
default_hooks = dict(
    timer=dict(type=IterTimerHook),
    logger=dict(type=LoggerHook, interval=25),
    param_scheduler=dict(type=ParamSchedulerHook),
    checkpoint=dict(type=CheckpointHook, interval=10, max_keep_ckpts=1, save_best='coco/bbox_mAP'),
    sampler_seed=dict(type=DistSamplerSeedHook),
    visualization=dict(type=DetVisualizationHook),
)
auto_scale_lr = dict(base_batch_size=16, enable=False)
