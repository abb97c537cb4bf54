# Small models from scratch: the whole network at one rate, after a warm-up; 1,000 iterations.
_base_ = './mask2former_368k.py'
max_iters = 1000
warmup = 50
optim_wrapper = dict(
    optimizer=dict(lr=0.0005),
    clip_grad=dict(max_norm=0.1),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=warmup, by_epoch=False),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=warmup, end=max_iters, by_epoch=False),
]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters, max_keep_ckpts=1))
