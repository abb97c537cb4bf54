# Salient objects with a pretrained EfficientNet-Lite0, for two CPU cores; the structure loss as released.
_base_ = [
    '../_base_/models/pfnet_efflite0.py',
    '../_base_/datasets/sod_224x224.py',
    '../_base_/schedules/pfnet_finetune_20e.py',
    '../_base_/default_runtime.py',
]
size = (224, 224)  # height, width

train_pipeline = [  # so few images are soon known by heart: crops of enlarged images, and stronger colours
    _base_.load_image,
    dict(type='mmplugins.LoadBinaryMask'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomResize', scale=size, ratio_range=(1.0, 1.5), keep_ratio=False, backend='pillow'),
    dict(type='RandomCrop', crop_size=size),
    dict(type='mmplugins.ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(data_preprocessor=dict(size=size))
randomness = dict(seed=0)
