# PSPNet on ResNet-18 with deep supervision, small enough to train from scratch on a CPU; 11 classes. Dilation,
# activation and initialisation are mmsegmentation's.
_base_ = './pspnet_r101-d8.py'
num_classes = 11
norm_cfg = dict(type='BN', requires_grad=True)
heads = dict(
    num_classes=num_classes,
    norm_cfg=norm_cfg,
    act_cfg=dict(_delete_=True, type='ReLU'),
    init_cfg=dict(_delete_=True, type='Normal', std=0.01, override=dict(name='conv_seg')),
)

model = dict(
    backbone=dict(depth=18, norm_cfg=norm_cfg, contract_dilation=True, init_cfg=None),
    decode_head=dict(in_channels=512, channels=128, **heads),
    auxiliary_head=dict(in_channels=256, channels=64, **heads),
)
