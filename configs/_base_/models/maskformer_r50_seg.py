# MaskFormer for semantic segmentation with a ResNet-50 as released, in mmsegmentation's EncoderDecoder: the transformer
# decoder reads the backbone's last stage, and the pixel decoder is a feature pyramid without attention.
num_classes = 150
feat_channels = 256

position = dict(num_feats=feat_channels // 2, normalize=True)
attention = dict(
    embed_dims=feat_channels,
    num_heads=8,
    attn_drop=0.1,
    dropout_layer=dict(type='Dropout', drop_prob=0.1),
    batch_first=True,
)
feed_forward = dict(
    embed_dims=feat_channels,
    feedforward_channels=2048,
    num_fcs=2,
    ffn_drop=0.1,
    act_cfg=dict(type='ReLU', inplace=True),
)

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),  # of the crops
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth'),
    ),
    decode_head=dict(
        type='mmplugins.MaskFormerSegHead',
        in_channels=[256, 512, 1024, 2048],
        feat_channels=feat_channels,
        out_channels=feat_channels,
        num_classes=num_classes,
        num_queries=100,
        align_corners=False,
        ignore_aware=True,  # pixels labelled 255 take no part in matching and loss
        pixel_decoder=dict(
            type='mmdet.PixelDecoder', norm_cfg=dict(type='GN', num_groups=32), act_cfg=dict(type='ReLU')
        ),
        positional_encoding=position,
        transformer_decoder=dict(
            num_layers=6,
            layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=feed_forward),
            return_intermediate=True,
        ),
        loss_cls=dict(
            type='mmdet.CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=1.0,
            reduction='mean',
            class_weight=[1.0] * num_classes + [0.1],
        ),
        loss_mask=dict(
            type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, reduction='mean', loss_weight=20.0
        ),
        loss_dice=dict(
            type='mmdet.DiceLoss',
            use_sigmoid=True,
            activate=True,
            reduction='mean',
            naive_dice=True,
            eps=1.0,
            loss_weight=1.0,
        ),
        train_cfg=dict(
            assigner=dict(
                type='mmplugins.BatchHungarianAssigner',
                match_costs=[
                    dict(type='mmplugins.ClassificationCost', weight=1.0),
                    dict(type='mmplugins.FocalLossCost', weight=20.0, binary_input=True),
                    dict(type='mmplugins.DiceCost', weight=1.0, pred_act=True, eps=1.0),
                ],
            ),
            sampler=dict(type='mmdet.MaskPseudoSampler'),
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
