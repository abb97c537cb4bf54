# Mask2Former on ResNet-18 of half the width, from scratch on CamVid at half size: for two CPU cores.
_base_ = [
    '../_base_/models/mask2former_r18-w32_seg.py',
    '../_base_/datasets/camvid_180x240.py',
    '../_base_/schedules/mask2former_scratch.py',
    '../_base_/default_runtime.py',
]
max_iters = 1500

train_dataloader = dict(batch_size=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=50, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    checkpoint=dict(interval=max_iters, save_best='mIoU'),
    visualization=dict(_delete_=True, type='SegVisualizationHook'),
)
