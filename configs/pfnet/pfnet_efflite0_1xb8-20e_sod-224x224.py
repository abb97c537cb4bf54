# Salient objects with a pretrained EfficientNet-Lite0, for two CPU cores; the structure loss as released.
_base_ = [
    '../_base_/models/pfnet_efflite0.py',
    '../_base_/datasets/sod_224x224.py',
    '../_base_/schedules/pfnet_finetune_20e.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=dict(size=(224, 224)))  # height, width
randomness = dict(seed=0)
