# A small set of salient objects, 200 images for training and 100 for tests:
#
#   data/sod
#   ├── train
#   │   ├── Imgs            *.jpg
#   │   └── GT              *.png, the same names
#   └── test
#       ├── Imgs
#       └── GT
data_root = 'data/sod/'
scale = (224, 224)  # width, height
batch_size = 8
num_workers = 2

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
# For tools/test.py --tta: an image and its mirror image.
tta_model = dict(type='mmplugins.SegTTAModel')
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

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmplugins.BinaryMaskDataset',
        data_root=data_root,
        data_prefix=dict(img_path='train/Imgs', seg_map_path='train/GT'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmplugins.BinaryMaskDataset',
        data_root=data_root,
        data_prefix=dict(img_path='test/Imgs', seg_map_path='test/GT'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmplugins.SaliencyMetric')
test_evaluator = val_evaluator
