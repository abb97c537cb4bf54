# Textured shapes (see the data set's config), half-width ResNet-18 from scratch with OHEM: what `make demo` trains.
_base_ = [
    '../_base_/models/pspnet_r18-d8-w32.py',
    '../_base_/datasets/sample_96x128.py',
    '../_base_/schedules/schedule_1k.py',
    '../_base_/default_runtime.py',
]
max_iters = 400
num_classes = 8

randomness = dict(seed=0)
model = dict(
    data_preprocessor=dict(size=(96, 128)),
    decode_head=dict(
        num_classes=num_classes,
        loss_decode=dict(_delete_=True, type='mmplugins.OhemCrossEntropyLoss', thresh=0.7, min_kept=0.1),
    ),
    auxiliary_head=dict(num_classes=num_classes),
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.002, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=20, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=100)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_iters))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmplugins.ValLossHook'),
    dict(type='mmplugins.LossPictureHook', interval=100),
]
