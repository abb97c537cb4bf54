# COCO panoptic (see coco-panoptic_1024x1024.py), sizes and augmentation of DETR, as MaskFormer trains.
_base_ = './coco-panoptic_1024x1024.py'
longest = 1333

load_annotations = dict(type='mmplugins.LoadPanopticAnnotations', num_things_classes=80)
# The shorter side is one of these, unless the longer one would exceed the limit.
resize = dict(type='RandomChoiceResize', scales=[(side, longest) for side in range(480, 801, 32)], keep_ratio=True)
# No limit here: no image of COCO is seven times as long as high.
resize_for_crop = dict(
    type='RandomChoiceResize', scales=[(side, 7 * side) for side in (400, 500, 600)], keep_ratio=True
)
crop = dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_annotations,
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[[resize], [resize_for_crop, crop, resize]]),
    # Objects of which the crop leaves no pixel; images of stuff alone stay.
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True, keep_empty=False),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
val_evaluator = dict(
    _delete_=True,
    type='mmplugins.CocoPanopticMetric',
    ann_file='data/coco/annotations/panoptic_val2017.json',
    seg_prefix='data/coco/annotations/panoptic_val2017/',
)
test_evaluator = val_evaluator
