# The two photographs that panopticapi brings along (https://github.com/cocodataset/panopticapi, sample_data), to see
# that a panoptic training runs; data/panoptic_sample is that folder:
#
#   data/panoptic_sample
#   ├── input_images              two *.jpg
#   ├── panoptic_examples         two *.png
#   └── panoptic_examples.json    133 classes
_base_ = './coco-panoptic_1024x1024.py'
data_root = 'data/panoptic_sample/'
image_size = (256, 256)

load_annotations = dict(type='mmplugins.LoadPanopticAnnotations', num_things_classes=80)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_annotations,
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.8, 1.5), keep_ratio=True),
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
    dict(type='Resize', scale=image_size, keep_ratio=True),
    load_annotations,  # after Resize: masks of the original image
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
files = dict(
    data_root=data_root,
    ann_file='panoptic_examples.json',
    data_prefix=dict(img='input_images/', seg='panoptic_examples/'),
)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(**files, pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(**files, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='mmplugins.CocoPanopticMetric',
    ann_file=data_root + 'panoptic_examples.json',
    seg_prefix=data_root + 'panoptic_examples/',
)
test_evaluator = val_evaluator
