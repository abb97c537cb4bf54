# Mask2Former with a ResNet-50 as released, for COCO's 80 things and 53 stuff classes: batch norms frozen, six
# deformable attention layers in the pixel decoder, nine in the transformer decoder, a prediction before the first.
num_things_classes = 80
num_stuff_classes = 53
num_classes = num_things_classes + num_stuff_classes
feat_channels = 256

position = dict(num_feats=feat_channels // 2, normalize=True)
attention = dict(embed_dims=feat_channels, num_heads=8, attn_drop=0.0, proj_drop=0.0, batch_first=True)
deformable_attention = dict(
    embed_dims=feat_channels, num_heads=8, num_levels=3, num_points=4, dropout=0.0, batch_first=True
)
feed_forward = dict(embed_dims=feat_channels, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type='ReLU', inplace=True))

model = dict(
    type='Mask2Former',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        pad_mask=True,
        mask_pad_value=0,
        pad_seg=True,
        seg_pad_value=255,
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
    panoptic_head=dict(
        type='mmplugins.Mask2FormerHead',
        in_channels=[256, 512, 1024, 2048],
        strides=[4, 8, 16, 32],
        feat_channels=feat_channels,
        out_channels=feat_channels,
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        num_queries=100,
        num_transformer_feat_level=3,
        ignore_aware=True,  # void and crowds take no part in matching and loss
        pixel_decoder=dict(
            type='MSDeformAttnPixelDecoder',
            num_outs=3,
            norm_cfg=dict(type='GN', num_groups=32),
            act_cfg=dict(type='ReLU'),
            encoder=dict(
                num_layers=6,
                layer_cfg=dict(
                    self_attn_cfg=deformable_attention, ffn_cfg=dict(**feed_forward, feedforward_channels=1024)
                ),
            ),
            positional_encoding=position,
        ),
        positional_encoding=position,
        transformer_decoder=dict(
            return_intermediate=True,
            num_layers=9,
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=dict(**feed_forward, feedforward_channels=2048),
            ),
            init_cfg=None,
        ),
        loss_cls=dict(
            type='CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=2.0,
            reduction='mean',
            class_weight=[1.0] * num_classes + [0.1],
        ),
        loss_mask=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='mean', loss_weight=5.0),
        loss_dice=dict(
            type='DiceLoss',
            use_sigmoid=True,
            activate=True,
            reduction='mean',
            naive_dice=True,
            eps=1.0,
            loss_weight=5.0,
        ),
    ),
    panoptic_fusion_head=dict(
        type='mmplugins.MaskFormerFusionHead',
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        loss_panoptic=None,
    ),
    train_cfg=dict(
        num_points=12544,
        oversample_ratio=3.0,
        importance_sample_ratio=0.75,
        assigner=dict(
            type='mmplugins.BatchHungarianAssigner',
            match_costs=[
                dict(type='mmplugins.ClassificationCost', weight=2.0),
                dict(type='mmplugins.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
                dict(type='mmplugins.DiceCost', weight=5.0, pred_act=True, eps=1.0),
            ],
        ),
        sampler=dict(type='MaskPseudoSampler'),
    ),
    test_cfg=dict(
        panoptic_on=True,
        semantic_on=False,  # mmdet has no such result
        instance_on=True,
        max_per_image=100,
        object_mask_thr=0.8,
        iou_thr=0.8,
        filter_low_score=True,  # panoptic: a segment's pixels have a probability of at least 0.5
    ),
)
