# COCO 2017 (https://cocodataset.org), boxes; sizes and augmentation as in DETR's released code:
#
#   data/coco
#   ├── annotations
#   │   ├── instances_train2017.json
#   │   └── instances_val2017.json
#   ├── train2017           118,287 *.jpg
#   └── val2017             5,000 *.jpg
#
# All training images are used, those without objects too; crowds are left out.
data_root = 'data/coco/'
batch_size = 2
num_workers = 2
longest = 1333

load_image = dict(type='LoadImageFromFile', color_type='color_ignore_orientation', imdecode_backend='pillow')
# The shorter side is one of these, unless the longer one would exceed the limit; sides are cut to whole pixels, not
# rounded.
resize = dict(
    type='RandomChoiceResize',
    scales=list(range(480, 801, 32)),
    resize_type='mmplugins.ResizeShorterSide',
    max_size=longest,
    cut=True,
)
resize_for_crop = dict(
    type='RandomChoiceResize', scales=[400, 500, 600], resize_type='mmplugins.ResizeShorterSide', cut=True
)
crop = dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True)
train_pipeline = [
    load_image,
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[[resize], [resize_for_crop, crop, resize]]),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    load_image,
    dict(type='mmplugins.ResizeShorterSide', scale=800, max_size=longest, cut=True),
    dict(type='LoadAnnotations', with_bbox=True),  # after Resize: boxes of the original image
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
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
val_evaluator = dict(type='CocoMetric', metric='bbox', ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
