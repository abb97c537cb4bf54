# Mask2Former on COCO as released: AdamW, 368,750 iterations of 16 images (50 epochs), the rate drops to a tenth after
# 89 % and 96 % of them, norms and embeddings without decay, the backbone at a tenth of the rate, gradients clipped to
# 0.01.
max_iters = 368750
val_interval = 5000
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0001, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999)),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    constructor='mmplugins.ComposedOptimWrapperConstructor',  # the backbone's norms do not decay either
    paramwise_cfg=dict(
        custom_keys=dict(
            backbone=dict(lr_mult=0.1),
            level_encoding=dict(decay_mult=1.0),  # an embedding in mmdet, a bare parameter in the released code
        ),
        norm_decay_mult=0.0,
        embed_decay_mult=0.0,
    ),
)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=max_iters, by_epoch=False, milestones=[327778, 355092], gamma=0.1)
]

train_cfg = dict(
    type='IterBasedTrainLoop',
    max_iters=max_iters,
    val_interval=val_interval,
    dynamic_intervals=[(max_iters // val_interval * val_interval + 1, max_iters)],  # and at the end
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
log_processor = dict(by_epoch=False)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=val_interval, max_keep_ckpts=3, save_best='auto', rule='greater'
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
)
# For scaling the rate with the batch (mmengine does it where `enable` is set); the released batch is 8 GPUs x 2.
auto_scale_lr = dict(base_batch_size=16, enable=False)
