# 600 iterations of AdamW for small models on pretrained encoders, on a CPU: the encoder at half the rate.
_base_ = './schedule_40k.py'
max_iters = 600
warmup = 30
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.004, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5)), norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=warmup, by_epoch=False),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=warmup, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters, max_keep_ckpts=1))
