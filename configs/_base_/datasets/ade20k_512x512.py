# ADE20K, 150 classes (http://sceneparsing.csail.mit.edu), crops of 512x512 as MaskFormer and Mask2Former train:
#
#   data/ade/ADEChallengeData2016
#   ├── images              training, validation: *.jpg
#   └── annotations         training, validation: *.png, 0: no class
data_root = 'data/ade/ADEChallengeData2016'
crop_size = (512, 512)
shortest = 512

# Pillow reads and resizes as in the released codes: it smooths what it shrinks.
load_image = dict(type='LoadImageFromFile', imdecode_backend='pillow')
train_pipeline = [
    load_image,
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(
        type='RandomChoiceResize',
        scales=[shortest * tenths // 10 for tenths in range(5, 21)],
        resize_type='mmplugins.ResizeShorterSide',
        max_size=2048,
    ),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    load_image,
    dict(type='Resize', scale=(2048, shortest), keep_ratio=True, backend='pillow'),
    dict(type='LoadAnnotations', reduce_zero_label=True),  # after Resize: the truth keeps its size
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmplugins.IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
