# PFNet on a ResNet-18 of half the width, decoder half as wide too: small enough to train from scratch on a CPU.
_base_ = './pfnet_r50.py'

model = dict(
    backbone=dict(depth=18, base_channels=32, stem_channels=32, init_cfg=None),
    decode_head=dict(in_channels=[32, 64, 128, 256], channels=[32, 64, 128, 256]),
)
