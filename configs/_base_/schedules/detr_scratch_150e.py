# For small models from scratch: the backbone at the full rate too, a warm-up, and a cosine down to 0.
_base_ = './detr_150e.py'
max_epochs = 150
optim_wrapper = dict(optimizer=dict(lr=0.0005), paramwise_cfg=None)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=4, by_epoch=True, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        begin=4,
        end=max_epochs,
        T_max=max_epochs - 4,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=10, max_keep_ckpts=1))
