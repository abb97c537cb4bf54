# Salient objects with a half-width ResNet-18 from scratch, for two CPU cores; the structure loss as released.
_base_ = [
    '../_base_/models/pfnet_r18-w32.py',
    '../_base_/datasets/sod_224x224.py',
    '../_base_/schedules/pfnet_scratch_40e.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=dict(size=(224, 224)))  # height, width
randomness = dict(seed=0)
