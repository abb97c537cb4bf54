# COCO panoptic (see coco-panoptic_1024x1024.py), sizes and augmentation of DETR, as MaskFormer trains.
_base_ = './coco-panoptic_1024x1024.py'
longest = 1333

# Pillow reads and resizes as in the released code: it smooths what it shrinks.
load_image = dict(type='LoadImageFromFile', imdecode_backend='pillow')
load_annotations = dict(type='mmplugins.LoadPanopticAnnotations', num_things_classes=80)
# In training the PNG is moved with the image and split last: segments that the crop leaves out stay, with empty masks.
load_map = dict(**load_annotations, split=False)
split_map = dict(type='mmplugins.SplitPanopticMap', num_things_classes=80)
# The shorter side is one of these, unless the longer one would exceed the limit.
resize = dict(
    type='RandomChoiceResize',
    scales=[(side, longest) for side in range(480, 801, 32)],
    keep_ratio=True,
    backend='pillow',
)
# No limit here: no image of COCO is seven times as long as high.
resize_for_crop = dict(
    type='RandomChoiceResize', scales=[(side, 7 * side) for side in (400, 500, 600)], keep_ratio=True, backend='pillow'
)
crop = dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600))
train_pipeline = [
    load_image,
    load_map,
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[[resize], [resize_for_crop, crop, resize]]),
    split_map,
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
