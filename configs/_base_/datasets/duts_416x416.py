# DUTS, salient objects, 10,553 images for training and 5,019 for tests, in the folders in which it is distributed:
#
#   data/DUTS
#   ├── DUTS-TR
#   │   ├── DUTS-TR-Image   *.jpg
#   │   └── DUTS-TR-Mask    *.png, the same names
#   └── DUTS-TE
#       ├── DUTS-TE-Image
#       └── DUTS-TE-Mask
data_root = 'data/DUTS/'
scale = (416, 416)  # width, height
batch_size = 16
num_workers = 4

load_image = dict(type='LoadImageFromFile', color_type='color_ignore_orientation', imdecode_backend='pillow')
resize = dict(type='Resize', scale=scale, keep_ratio=False, backend='pillow')
train_pipeline = [
    load_image,
    dict(type='mmplugins.LoadBinaryMask', grey=True),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    resize,
    dict(type='mmplugins.ColorJitter', brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1),
    dict(type='PackSegInputs'),
    dict(type='mmplugins.SoftMask'),
]
test_pipeline = [
    load_image,
    resize,
    dict(type='mmplugins.LoadBinaryMask'),  # after Resize: metrics are measured at the mask's own size
    dict(type='PackSegInputs'),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmplugins.BinaryMaskDataset',
        data_root=data_root,
        data_prefix=dict(img_path='DUTS-TR/DUTS-TR-Image', seg_map_path='DUTS-TR/DUTS-TR-Mask'),
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
        data_prefix=dict(img_path='DUTS-TE/DUTS-TE-Image', seg_map_path='DUTS-TE/DUTS-TE-Mask'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmplugins.SaliencyMetric')
test_evaluator = val_evaluator
