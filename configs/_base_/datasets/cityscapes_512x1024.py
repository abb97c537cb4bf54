# Cityscapes (see cityscapes_769x769.py), crops of 512x1024 as Mask2Former trains: scales 0.5 to 2.0 in steps of 0.1.
_base_ = './cityscapes_769x769.py'
crop_size = (512, 1024)
shortest = 1024

# Pillow reads and resizes as in the released code: it smooths what it shrinks.
load_image = dict(type='LoadImageFromFile', imdecode_backend='pillow')
train_pipeline = [
    load_image,
    dict(type='LoadAnnotations'),
    dict(
        type='RandomChoiceResize',
        scales=[shortest * tenths // 10 for tenths in range(5, 21)],
        resize_type='mmplugins.ResizeShorterSide',
        max_size=4096,
    ),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
