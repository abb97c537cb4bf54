# AOT's decoder on a pretrained EfficientNet-Lite0 with OHEM, on images of your own: what `make showcase` trains.
_base_ = [
    '../_base_/models/fpn-head_efflite0.py',
    '../_base_/datasets/own-folder_192x256.py',
    '../_base_/schedules/schedule_finetune_600.py',
    '../_base_/default_runtime.py',
]
max_iters = 300
num_classes = 2

model = dict(
    data_preprocessor=dict(size=(192, 256)),  # height, width
    decode_head=dict(
        num_classes=num_classes,
        loss_decode=dict(_delete_=True, type='mmplugins.OhemCrossEntropyLoss', thresh=0.7, min_kept=0.1),
    ),
    auxiliary_head=dict(num_classes=num_classes),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=30, by_epoch=False),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=30, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=100)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_iters))
randomness = dict(seed=0)
