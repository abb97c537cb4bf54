"""PSPNet on ResNet-18 of half the width with deep supervision, to train from scratch on a CPU; 11 classes."""

from mmseg.models import CrossEntropyLoss, EncoderDecoder, FCNHead, PSPHead, ResNetV1c, SegDataPreProcessor

from mmplugins.models.decode_heads import LowResolutionLossHead

num_classes = 11
norm_cfg = dict(type='BN', requires_grad=True)
heads = dict(
    type=LowResolutionLossHead,
    num_classes=num_classes,
    align_corners=True,
    dropout_ratio=0.1,
    norm_cfg=norm_cfg,
    act_cfg=dict(type='ReLU'),
    init_cfg=dict(type='Normal', std=0.01, override=dict(name='conv_seg')),
)
model = dict(
    type=EncoderDecoder,
    data_preprocessor=dict(
        type=SegDataPreProcessor,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type=ResNetV1c,
        depth=18,
        base_channels=32,
        stem_channels=32,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='pytorch',
        init_cfg=None,
    ),
    decode_head=dict(
        head=PSPHead,
        in_channels=256,
        in_index=3,
        channels=128,
        pool_scales=(1, 2, 3, 6),
        loss_decode=dict(type=CrossEntropyLoss, avg_non_ignore=True, loss_weight=1.0),
        **heads,
    ),
    auxiliary_head=dict(
        head=FCNHead,
        in_channels=128,
        in_index=2,
        channels=64,
        num_convs=1,
        concat_input=False,
        loss_decode=dict(type=CrossEntropyLoss, avg_non_ignore=True, loss_weight=0.4),
        **heads,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
