# CamVid at full size, for one GPU.
_base_ = [
    '../_base_/models/pspnet_r101-d8.py',
    '../_base_/datasets/camvid_360x480.py',
    '../_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]
crop_size = (360, 480)
num_classes = 11
norm_cfg = dict(type='BN', requires_grad=True)

model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(norm_cfg=norm_cfg),
    decode_head=dict(num_classes=num_classes, norm_cfg=norm_cfg),
    auxiliary_head=dict(num_classes=num_classes, norm_cfg=norm_cfg),
)
