# Mask2Former on a pretrained EfficientNet-Lite0, CamVid at half size: for two CPU cores.
_base_ = [
    '../_base_/models/mask2former_efflite0_seg.py',
    '../_base_/datasets/camvid_180x240.py',
    '../_base_/schedules/mask2former_scratch.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=4)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
default_hooks = dict(
    checkpoint=dict(save_best='mIoU'),
    visualization=dict(_delete_=True, type='SegVisualizationHook'),
)
randomness = dict(seed=0)
