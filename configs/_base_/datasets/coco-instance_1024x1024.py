# COCO 2017 (https://cocodataset.org), instance masks, large-scale jittering to 1024x1024 as Mask2Former trains:
#
#   data/coco
#   ├── annotations
#   │   ├── instances_train2017.json
#   │   └── instances_val2017.json
#   ├── train2017           118,287 *.jpg
#   └── val2017             5,000 *.jpg
#
# Crowds stay in the samples, as ignored instances.
data_root = 'data/coco/'
image_size = (1024, 1024)
batch_size = 2
num_workers = 4

# Pillow reads and resizes as in the released code: it smooths what it shrinks.
load_image = dict(type='LoadImageFromFile', imdecode_backend='pillow')
train_pipeline = [
    load_image,
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True, backend='pillow'),
    dict(type='RandomCrop', crop_type='absolute', crop_size=image_size),
    dict(type='mmplugins.RasterizeInstances'),  # last: outlines are moved, not masks
    dict(type='PackDetInputs'),
]
test_pipeline = [
    load_image,
    dict(type='Resize', scale=(1333, 800), keep_ratio=True, backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),  # after Resize: masks of the original image
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric', metric=['bbox', 'segm'], ann_file=data_root + 'annotations/instances_val2017.json'
)
test_evaluator = val_evaluator
