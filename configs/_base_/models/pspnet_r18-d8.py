# PSPNet on ResNet-18 with deep supervision, small enough to train from scratch on a CPU; 11 classes.
_base_ = './pspnet_r101-d8.py'
num_classes = 11
norm_cfg = dict(type='BN', requires_grad=True)

model = dict(
    backbone=dict(depth=18, norm_cfg=norm_cfg, init_cfg=None),
    decode_head=dict(in_channels=512, channels=128, num_classes=num_classes, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=256, channels=64, num_classes=num_classes, norm_cfg=norm_cfg),
)
