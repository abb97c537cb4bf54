# CamVid at half size with AOT's decoder on MobileNetV2 from scratch and the hardest 15 % of pixels, for two CPU cores.
_base_ = [
    '../_base_/models/fpn-head_mobilenetv2.py',
    '../_base_/datasets/camvid_180x240.py',
    '../_base_/schedules/schedule_1k.py',
    '../_base_/default_runtime.py',
]
crop_size = (180, 240)

randomness = dict(seed=0)
model = dict(data_preprocessor=dict(size=crop_size))
