# Mask2Former on ResNet-18, a small one for CPUs, to train from scratch: 128 channels, two layers in the pixel decoder,
# three in the transformer decoder.
_base_ = './mask2former_r50.py'
feat_channels = 128

position = dict(num_feats=feat_channels // 2)
attention = dict(embed_dims=feat_channels)
feed_forward = dict(embed_dims=feat_channels, feedforward_channels=4 * feat_channels)

model = dict(
    backbone=dict(depth=18, norm_cfg=dict(requires_grad=True), norm_eval=False, init_cfg=None),
    panoptic_head=dict(
        in_channels=[64, 128, 256, 512],
        feat_channels=feat_channels,
        out_channels=feat_channels,
        pixel_decoder=dict(
            encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=feed_forward)),
            positional_encoding=position,
        ),
        positional_encoding=position,
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=feed_forward),
        ),
    ),
    train_cfg=dict(num_points=1024),  # for masks of 64x64
)
