# AOT's main training as released: AdamW, 100,000 iterations of 16 clips, warm-up over 5 % of them, poly 0.9 to the
# least rate, an exponential moving average of the weights, gradients clipped to a norm of 5. Released with --amp.
max_iters = 100000
lr = 0.0002
min_lr = 0.00002
no_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=lr, weight_decay=0.07),
    clip_grad=dict(max_norm=5.0, norm_type=2),
    paramwise_cfg=dict(
        custom_keys={
            # the encoder's distance from the least rate is a tenth of the others'; its norms are frozen
            'encoder.backbone': dict(lr_mult=(0.1 * (lr - min_lr) + min_lr) / lr),
            'relative_value': no_decay,
            'decoder.out': no_decay,
        },
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
    ),
)
param_scheduler = [
    dict(type='mmplugins.WarmupPolyLR', warmup=max_iters // 20, power=0.9, eta_min=min_lr, begin=0, end=max_iters)
]
find_unused_parameters = True  # the identity bank is not trained in the second half

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=10000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
log_processor = dict(by_epoch=False)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=10000, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='mmplugins.VOSVisualizationHook'),
)
