# Blood cells with a small DETR on a pretrained EfficientNet-Lite0, for two CPU cores.
_base_ = [
    '../_base_/models/detr_efflite0.py',
    '../_base_/datasets/bccd_192x256.py',
    '../_base_/schedules/detr_scratch_150e.py',
    '../_base_/default_runtime_det.py',
]

model = dict(bbox_head=dict(num_classes=3))
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, custom_keys=dict(backbone=dict(lr_mult=0.2))))
train_cfg = dict(val_interval=50)
default_hooks = dict(checkpoint=dict(interval=50))
randomness = dict(seed=0)
