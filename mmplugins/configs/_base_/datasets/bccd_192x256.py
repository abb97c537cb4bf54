"""BCCD, blood cells, at two fifths of its size; boxes are evaluated at full size.

configs/_base_/datasets/bccd_480x640.py says what lies where in ``data/bccd``.
"""

from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, RandomFlip, Resize
from mmdet.evaluation import CocoMetric
from mmengine.dataset import DefaultSampler

data_root = 'data/bccd/'
scale = (256, 192)  # width, height
batch_size = 8

metainfo = dict(classes=('RBC', 'WBC', 'Platelets'), palette=[(220, 40, 60), (60, 100, 240), (240, 190, 30)])
train_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=LoadAnnotations, with_bbox=True),
    dict(type=RandomFlip, prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type=Resize, scale=scale, keep_ratio=True),
    dict(type=PackDetInputs),
]
test_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=Resize, scale=scale, keep_ratio=True),
    dict(type=LoadAnnotations, with_bbox=True),  # after Resize: boxes of the original image
    dict(type=PackDetInputs, meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
files = dict(type=CocoDataset, data_root=data_root, data_prefix=dict(img='images/'), metainfo=metainfo)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(ann_file='annotations/train.json', pipeline=train_pipeline, **files),
)
val_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(ann_file='annotations/val.json', test_mode=True, pipeline=test_pipeline, **files),
)
test_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(ann_file='annotations/test.json', test_mode=True, pipeline=test_pipeline, **files),
)
val_evaluator = dict(type=CocoMetric, metric='bbox', ann_file=data_root + 'annotations/val.json')
test_evaluator = dict(type=CocoMetric, metric='bbox', ann_file=data_root + 'annotations/test.json')
