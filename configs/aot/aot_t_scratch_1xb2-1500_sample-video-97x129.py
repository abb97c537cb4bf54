# AOT-T from scratch on videos of textured shapes, which a tool of ours makes: no download, for a CPU. Twice as long as
# on DAVIS, the second half on its own masks.
_base_ = [
    '../_base_/models/aot_t_scratch.py',
    '../_base_/datasets/sample-video_97x129.py',
    '../_base_/schedules/aot_scratch_750.py',
    '../_base_/default_runtime_vos.py',
]
max_iters = 1500

train_dataloader = dict(batch_size=2)
model = dict(
    loss_decode=[
        dict(type='mmplugins.TopKCrossEntropyLoss', hard_example_mining_step=max_iters // 2, loss_weight=0.5),
        dict(type='mmplugins.SoftJaccardLoss', loss_weight=0.5),
    ],
    train_cfg=dict(own_masks_from=max_iters // 2, aux_loss_steps=max_iters),
)
param_scheduler = [
    dict(type='mmplugins.WarmupPolyLR', warmup=max_iters // 20, power=0.9, eta_min=0.00002, begin=0, end=max_iters)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
custom_hooks = [
    dict(type='mmplugins.IterSeedHook'),
    dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=10 / max_iters, gamma=9, update_buffers=True),
]
randomness = dict(seed=0)
