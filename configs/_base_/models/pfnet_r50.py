# PFNet on ResNet-50: positioning map with BCE + IoU, three focus maps with the structure loss as released.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
)
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='pytorch',
        # ImageNet weights of torchvision's first recipe, as released; the address works without torchvision.
        init_cfg=dict(type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet50-19c8e357.pth'),
    ),
    decode_head=dict(
        type='mmplugins.PFNetHead',
        in_channels=[256, 512, 1024, 2048],
        channels=[64, 128, 256, 512],
        in_index=[0, 1, 2, 3],
        num_classes=2,
        out_channels=1,
        threshold=0.5,
        norm_cfg=norm_cfg,
        align_corners=True,
        loss_positioning=dict(type='mmplugins.BCEIoULoss'),
        loss_decode=dict(type='mmplugins.StructureLoss', kernel_size=31, edge_weight=5.0, variant='released'),
        map_weights=[1.0, 1.0, 2.0, 4.0],  # positioning, focus3, focus2, focus1
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
