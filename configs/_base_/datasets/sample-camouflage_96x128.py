# Shapes with their background's texture, made in seconds by
#   python tools/dataset_converters/make_sample_data.py data/sample_camouflage --kind camouflage --train 600 --val 60
data_root = 'data/sample_camouflage'
batch_size = 8

train_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='mmplugins.LoadBinaryMask'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmplugins.ColorJitter', brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='mmplugins.LoadBinaryMask'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,  # reading is next to nothing here, and two cores are better left to the network
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
    num_workers=0,
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
