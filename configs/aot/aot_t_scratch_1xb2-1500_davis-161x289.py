# AOT-T from scratch on seven sequences of DAVIS at a third of their size: for two CPU cores. Without ImageNet's weights
# batch norm is trained, and the whole network at one rate.
_base_ = [
    '../_base_/models/aot_t.py',
    '../_base_/datasets/davis_161x289.py',
    '../_base_/schedules/aot_100k.py',
    '../_base_/default_runtime_vos.py',
]
max_iters = 1500
lr = 0.0005
min_lr = 0.00002

train_dataloader = dict(batch_size=2)
model = dict(
    backbone=dict(frozen_stages=-1, norm_cfg=dict(requires_grad=True), norm_eval=False, init_cfg=None),
    loss_decode=[
        dict(type='mmplugins.TopKCrossEntropyLoss', hard_example_mining_step=max_iters // 2, loss_weight=0.5),
        dict(type='mmplugins.SoftJaccardLoss', loss_weight=0.5),
    ],
    train_cfg=dict(own_masks_from=max_iters // 2, aux_loss_steps=max_iters),
)
no_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(lr=lr),
    paramwise_cfg=dict(custom_keys={'_delete_': True, 'relative_value': no_decay, 'decoder.out': no_decay}),
)
param_scheduler = [
    dict(type='mmplugins.WarmupPolyLR', warmup=max_iters // 20, power=0.9, eta_min=min_lr, begin=0, end=max_iters)
]
custom_hooks = [
    dict(type='mmplugins.IterSeedHook'),
    dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=10 / max_iters, gamma=9),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters, max_keep_ckpts=1))
randomness = dict(seed=0)
