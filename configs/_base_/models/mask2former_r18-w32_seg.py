# Mask2Former for semantic segmentation on ResNet-18 of half the width, a small one for CPUs, to train from scratch: 128
# channels, one layer in the pixel decoder, three in the transformer decoder; 11 classes.
_base_ = './mask2former_r50_seg.py'
num_classes = 11
feat_channels = 128

position = dict(num_feats=feat_channels // 2)
attention = dict(embed_dims=feat_channels)
feed_forward = dict(embed_dims=feat_channels, feedforward_channels=4 * feat_channels)

model = dict(
    data_preprocessor=dict(size=(192, 256)),  # crops of 180x240, filled up to a multiple of 32
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        base_channels=32,
        stem_channels=32,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        init_cfg=None,
    ),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        feat_channels=feat_channels,
        out_channels=feat_channels,
        num_classes=num_classes,
        num_queries=25,
        pixel_decoder=dict(
            encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=feed_forward)),
            positional_encoding=position,
        ),
        positional_encoding=position,
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=feed_forward),
        ),
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1]),
        train_cfg=dict(num_points=768),  # for masks of 48x64
    ),
)
