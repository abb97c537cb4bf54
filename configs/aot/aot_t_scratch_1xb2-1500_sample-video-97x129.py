# AOT-T from scratch on videos of textured shapes, which a tool of ours makes: no download, for a CPU.
_base_ = [
    '../_base_/models/aot_t_scratch.py',
    '../_base_/datasets/sample-video_97x129.py',
    '../_base_/schedules/aot_scratch_1500.py',
    '../_base_/default_runtime_vos.py',
]

train_dataloader = dict(batch_size=2)
custom_hooks = [
    dict(type='mmplugins.IterSeedHook'),
    dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=10 / _base_.max_iters, gamma=9, update_buffers=True),
]
randomness = dict(seed=0)
