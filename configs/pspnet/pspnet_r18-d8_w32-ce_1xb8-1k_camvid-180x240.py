# CamVid at half size with a half-width ResNet-18 from scratch, for two CPU cores.
_base_ = [
    '../_base_/models/pspnet_r18-d8-w32.py',
    '../_base_/datasets/camvid_180x240.py',
    '../_base_/schedules/schedule_1k.py',
    '../_base_/default_runtime.py',
]
crop_size = (180, 240)

randomness = dict(seed=0)
model = dict(data_preprocessor=dict(size=crop_size))
