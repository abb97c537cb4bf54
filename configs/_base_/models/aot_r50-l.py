# R50-AOT-L: ResNet-50 without its last stage, which ends at stride 16.
_base_ = './aot_l.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmseg.ResNet',
        depth=50,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth'),
    ),
    in_channels=[256, 512, 1024, 1024],
)
