"""A small DETR to train from scratch: half-width ResNet-18 to stride 16, 2 + 3 layers of 128 channels, 30 queries."""

from mmdet.models import DETR, ChannelMapper, CrossEntropyLoss, DetDataPreprocessor, GIoULoss, L1Loss, ResNet

from mmplugins.models.dense_heads import DETRHead
from mmplugins.models.task_modules.assigners import BatchHungarianAssigner
from mmplugins.models.task_modules.match_costs import BBoxL1Cost, ClassificationCost, IoUCost

num_queries = 30
embed_dims = 128
attention = dict(
    embed_dims=embed_dims,
    num_heads=8,
    attn_drop=0.0,
    dropout_layer=dict(type='Dropout', drop_prob=0.0),
    batch_first=True,
)
feed_forward = dict(
    embed_dims=embed_dims,
    feedforward_channels=256,
    num_fcs=2,
    ffn_drop=0.0,
    act_cfg=dict(type='ReLU', inplace=True),
)
model = dict(
    type=DETR,
    num_queries=num_queries,
    data_preprocessor=dict(
        type=DetDataPreprocessor,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=1,
    ),
    backbone=dict(
        type=ResNet,
        depth=18,
        base_channels=32,
        stem_channels=32,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        init_cfg=None,
    ),
    neck=dict(
        type=ChannelMapper,
        in_channels=[128],
        kernel_size=1,
        out_channels=embed_dims,
        act_cfg=None,
        norm_cfg=None,
        num_outs=1,
        # PyTorch's own for a convolution, as in the released code
        init_cfg=dict(
            type='Kaiming',
            layer='Conv2d',
            a=5**0.5,
            mode='fan_in',
            nonlinearity='leaky_relu',
            distribution='uniform',
        ),
    ),
    encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=feed_forward)),
    decoder=dict(
        num_layers=3,
        layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=feed_forward),
        return_intermediate=True,
    ),
    positional_encoding=dict(num_feats=embed_dims // 2, temperature=10000, normalize=True, offset=0.0, eps=1e-6),
    bbox_head=dict(
        type=DETRHead,
        num_classes=80,
        embed_dims=embed_dims,
        loss_cls=dict(type=CrossEntropyLoss, bg_cls_weight=0.1, use_sigmoid=False, loss_weight=1.0, class_weight=1.0),
        loss_bbox=dict(type=L1Loss, loss_weight=5.0),
        loss_iou=dict(type=GIoULoss, loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type=BatchHungarianAssigner,
            match_costs=[
                dict(type=ClassificationCost, weight=1.0),
                dict(type=BBoxL1Cost, weight=5.0, box_format='xywh'),
                dict(type=IoUCost, iou_mode='giou', weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img=num_queries),
)
