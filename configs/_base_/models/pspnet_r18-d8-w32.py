# As pspnet_r18-d8.py at half the width (32 channels instead of 64 in the first stage).
_base_ = './pspnet_r18-d8.py'

model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    decode_head=dict(in_channels=256),
    auxiliary_head=dict(in_channels=128),
)
