# AOT-T: MobileNetV2, one transformer block, only the first frame in long-term memory.
norm_cfg = dict(type='BN', requires_grad=False)  # frozen
model = dict(
    type='mmplugins.AOT',
    data_preprocessor=dict(
        type='mmplugins.VOSDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='mmplugins.DilatedMobileNetV2',
        frozen_stages=2,
        norm_cfg=norm_cfg,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='mmcls://mobilenet_v2'),
    ),
    in_channels=[24, 32, 96, 1280],
    channels=256,
    num_blocks=1,
    num_heads=8,
    window=15,
    feedforward_channels=1024,
    drop_path=0.1,
    max_objects=10,
    align_corners=True,
    loss_decode=[
        dict(
            type='mmplugins.TopKCrossEntropyLoss',
            top_k_percent_pixels=0.15,
            hard_example_mining_step=50000,  # half of the training
            loss_weight=0.5,
        ),
        dict(type='mmplugins.SoftJaccardLoss', loss_weight=0.5),
    ],
    train_cfg=dict(
        gap=None,
        shuffle_identities=True,
        own_masks_from=50000,  # half of the training
        aux_loss_weight=1.0,
        aux_loss_steps=100000,  # all of the training
    ),
    test_cfg=dict(gap=None, max_stored=None),
)
