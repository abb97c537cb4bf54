# CamVid at half size with a pretrained EfficientNet-Lite0, for two CPU cores.
_base_ = [
    '../_base_/models/pspnet_efflite0-d8.py',
    '../_base_/datasets/camvid_180x240.py',
    '../_base_/schedules/schedule_finetune_600.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=dict(size=(180, 240)))  # height, width
randomness = dict(seed=0)
