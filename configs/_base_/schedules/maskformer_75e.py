# MaskFormer on COCO panoptic as mmdet trains it: AdamW, 75 epochs of batches of 16, the rate drops to a tenth after 50;
# the released training has 300 epochs of batches of 64 with the same rates.
max_epochs = 75
drop_epoch = 50
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0001, weight_decay=0.0001, eps=1e-8, betas=(0.9, 0.999)),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    constructor='mmplugins.ComposedOptimWrapperConstructor',  # the backbone's norms do not decay either
    paramwise_cfg=dict(
        custom_keys=dict(backbone=dict(lr_mult=0.1)),
        norm_decay_mult=0.0,
        embed_decay_mult=0.0,
    ),
)
param_scheduler = [dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[drop_epoch], gamma=0.1)]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
log_processor = dict(by_epoch=True)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3, save_best='coco_panoptic/PQ', rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
)
# For scaling the rate with the batch (mmengine does it where `enable` is set); mmdet's batch is 16 GPUs x 1.
auto_scale_lr = dict(base_batch_size=16, enable=False)
