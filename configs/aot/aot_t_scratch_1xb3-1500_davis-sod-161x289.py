# AOT-T from scratch on seven sequences of DAVIS at a third of their size, and on clips made of 200 images: for two CPU
# cores.
_base_ = [
    '../_base_/models/aot_t_scratch.py',
    '../_base_/datasets/davis-sod_161x289.py',
    '../_base_/schedules/aot_scratch_1500.py',
    '../_base_/default_runtime_vos.py',
]

# A video has one object, and a clip at most two, those of two that are merged. Identities are not shuffled, so that
# these two are learned sooner; only they are: shuffle for videos of more objects. The memory sees true masks to the
# end, as those of a network that has learned so little are poor.
model = dict(train_cfg=dict(shuffle_identities=False, own_masks_from=None))
find_unused_parameters = False  # so that the identity bank is trained to the end
optim_wrapper = dict(optimizer=dict(lr=0.001))
custom_hooks = [
    dict(type='mmplugins.IterSeedHook'),
    dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=10 / _base_.max_iters, gamma=9, update_buffers=True),
]
randomness = dict(seed=0)
