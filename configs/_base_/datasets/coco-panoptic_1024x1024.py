# COCO 2017 (https://cocodataset.org), 80 things and 53 stuff classes, large-scale jittering to 1024x1024 as Mask2Former
# trains:
#
#   data/coco
#   ├── annotations
#   │   ├── instances_val2017.json       for the mask AP
#   │   ├── panoptic_train2017.json
#   │   ├── panoptic_train2017/          118,287 *.png
#   │   ├── panoptic_val2017.json
#   │   └── panoptic_val2017/            5,000 *.png
#   ├── train2017                        118,287 *.jpg
#   └── val2017                          5,000 *.jpg
#
# All training images are used, those without things too. Void and crowds are ignored.
data_root = 'data/coco/'
image_size = (1024, 1024)
batch_size = 2
num_workers = 4

load_annotations = dict(type='mmplugins.LoadPanopticAnnotations', num_things_classes=80)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_annotations,
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='absolute',
        crop_size=image_size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    # Objects of which the crop leaves no pixel; images of stuff alone stay.
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True, keep_empty=False),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    load_annotations,  # after Resize: masks of the original image
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoPanopticDataset',
        data_root=data_root,
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(img='train2017/', seg='annotations/panoptic_train2017/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoPanopticDataset',
        data_root=data_root,
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='val2017/', seg='annotations/panoptic_val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(
        type='mmplugins.CocoPanopticMetric',
        ann_file=data_root + 'annotations/panoptic_val2017.json',
        seg_prefix=data_root + 'annotations/panoptic_val2017/',
    ),
    dict(type='CocoMetric', metric=['bbox', 'segm'], ann_file=data_root + 'annotations/instances_val2017.json'),
]
test_evaluator = val_evaluator
