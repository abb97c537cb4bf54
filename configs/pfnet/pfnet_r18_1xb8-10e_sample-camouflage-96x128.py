# Shapes hidden in their background's texture (see the data set's file), a half-width ResNet-18 from scratch in a few
# minutes on two CPU cores; the structure loss as released.
_base_ = [
    '../_base_/models/pfnet_r18-w32.py',
    '../_base_/datasets/sample-camouflage_96x128.py',
    '../_base_/schedules/pfnet_scratch_40e.py',
    '../_base_/default_runtime.py',
]
max_epochs = 10

model = dict(data_preprocessor=dict(size=(96, 128)))  # height, width
by_epoch = dict(by_epoch=True, convert_to_iter_based=True)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=1, **by_epoch),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=1, end=max_epochs, **by_epoch),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
default_hooks = dict(checkpoint=dict(interval=5))
randomness = dict(seed=0)
