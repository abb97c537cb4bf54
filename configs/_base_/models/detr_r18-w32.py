# A small DETR for CPUs, from scratch: half-width ResNet-18 up to stride 16, 2 + 3 layers of 128 channels, 30 queries.
_base_ = './detr_r50.py'
embed_dims = 128
attention = dict(embed_dims=embed_dims, attn_drop=0.0, dropout_layer=dict(drop_prob=0.0))
feed_forward = dict(embed_dims=embed_dims, feedforward_channels=256, ffn_drop=0.0)

model = dict(
    num_queries=30,
    backbone=dict(
        depth=18,
        base_channels=32,
        stem_channels=32,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        frozen_stages=-1,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[128], out_channels=embed_dims),
    encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=feed_forward)),
    decoder=dict(num_layers=3, layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=feed_forward)),
    positional_encoding=dict(num_feats=embed_dims // 2),
    bbox_head=dict(embed_dims=embed_dims),
    test_cfg=dict(max_per_img=30),
)
