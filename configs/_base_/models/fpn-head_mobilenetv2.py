# AOT's decoder on a MobileNetV2 of strides 4, 8, 16 and 16 (the last stages dilated), auxiliary head as PSPNet's.
num_classes = 11
norm_cfg = dict(type='BN', requires_grad=True)

data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='MobileNetV2',
        strides=(1, 2, 2, 2, 1, 1, 1),
        dilations=(1, 1, 1, 1, 1, 2, 2),
        out_indices=(1, 2, 4, 6),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='mmplugins.LowResolutionLossHead',  # a map of all classes at the label's size is never made
        head='mmplugins.FPNSegmentationHead',
        in_channels=[24, 32, 96, 320],
        channels=256,
        num_classes=num_classes,
        align_corners=True,
        loss_decode=dict(
            type='mmplugins.TopKCrossEntropyLoss', top_k_percent_pixels=0.15, hard_example_mining_step=500
        ),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=96,
        in_index=2,
        channels=64,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=True,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True, loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
