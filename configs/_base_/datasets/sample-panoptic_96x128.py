# Textured shapes on a background of stuff, made in seconds by
# `python tools/dataset_converters/make_sample_data.py data/sample_panoptic --kind panoptic`
_base_ = './coco-panoptic_1024x1024.py'
data_root = 'data/sample_panoptic/'
batch_size = 8

classes = ('circle', 'square', 'triangle', 'star', 'ring', 'cross', 'pole', 'background')
metainfo = dict(
    classes=classes,
    thing_classes=classes[:7],
    stuff_classes=classes[7:],
    palette=[
        (220, 50, 47),
        (38, 139, 210),
        (133, 173, 0),
        (255, 200, 0),
        (211, 54, 180),
        (42, 190, 175),
        (250, 250, 250),
        (60, 60, 60),
    ],
)
load_annotations = dict(type='mmplugins.LoadPanopticAnnotations', num_things_classes=7)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_annotations,
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    load_annotations,
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,  # reading is next to nothing here, and two cores are better left to the network
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='images/train/', seg='annotations/panoptic_train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='images/val/', seg='annotations/panoptic_val/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='mmplugins.CocoPanopticMetric',
    ann_file=data_root + 'annotations/panoptic_val.json',
    seg_prefix=data_root + 'annotations/panoptic_val/',
    classwise=True,
)
test_evaluator = val_evaluator
