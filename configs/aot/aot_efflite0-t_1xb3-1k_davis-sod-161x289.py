# AOT-T on a pretrained EfficientNet-Lite0, on seven sequences of DAVIS at a third of their size, and on clips made of
# 200 images: for two CPU cores.
_base_ = [
    '../_base_/models/aot_efflite0.py',
    '../_base_/datasets/davis-sod_161x289.py',
    '../_base_/schedules/aot_finetune_1k.py',
    '../_base_/default_runtime_vos.py',
]

# Few identities are learned, see aot_t_scratch_1xb3-1500_davis-sod-161x289.py.
model = dict(train_cfg=dict(shuffle_identities=False))
custom_hooks = [
    dict(type='mmplugins.IterSeedHook'),
    dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=10 / _base_.max_iters, gamma=9, update_buffers=True),
]
randomness = dict(seed=0)
