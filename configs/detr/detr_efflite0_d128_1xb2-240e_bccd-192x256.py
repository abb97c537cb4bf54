# Blood cells with a small DETR on a pretrained EfficientNet-Lite0, for two CPU cores. DETR learns slowly: 240 epochs,
# and batches of 2, which learn far more in the same time than batches of 4.
_base_ = [
    '../_base_/models/detr_efflite0.py',
    '../_base_/datasets/bccd_192x256.py',
    '../_base_/schedules/detr_scratch_150e.py',
    '../_base_/default_runtime_det.py',
]
max_epochs = 240

model = dict(bbox_head=dict(num_classes=3))
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(
    optimizer=dict(lr=0.0002), paramwise_cfg=dict(_delete_=True, custom_keys=dict(backbone=dict(lr_mult=0.2)))
)
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
param_scheduler[1].T_max = max_epochs - param_scheduler[1].begin
train_cfg = dict(max_epochs=max_epochs, val_interval=20)
default_hooks = dict(checkpoint=dict(interval=20))
randomness = dict(seed=0)
