"""Textured shapes, made in seconds by ``python tools/dataset_converters/make_sample_data.py data/sample``."""

from mmcv.transforms import LoadImageFromFile, RandomFlip
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmseg.datasets import BaseSegDataset, LoadAnnotations, PackSegInputs

from mmplugins.evaluation.metrics import IoUMetric

data_root = 'data/sample'
batch_size = 8

metainfo = dict(
    classes=('background', 'circle', 'square', 'triangle', 'star', 'ring', 'cross', 'pole'),
    palette=[
        [60, 60, 60],
        [220, 50, 47],
        [38, 139, 210],
        [133, 173, 0],
        [255, 200, 0],
        [211, 54, 180],
        [42, 190, 175],
        [250, 250, 250],
    ],
)
train_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=LoadAnnotations),
    dict(type=RandomFlip, prob=0.5),
    dict(type=PackSegInputs),
]
test_pipeline = [
    dict(type=LoadImageFromFile),
    dict(type=LoadAnnotations),
    dict(type=PackSegInputs),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,  # reading is next to nothing here, and two cores are better left to the network
    sampler=dict(type=InfiniteSampler, shuffle=True),
    dataset=dict(
        type=BaseSegDataset,
        metainfo=metainfo,
        data_root=data_root,
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        img_suffix='.png',
        seg_map_suffix='.png',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=BaseSegDataset,
        metainfo=metainfo,
        data_root=data_root,
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        img_suffix='.png',
        seg_map_suffix='.png',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=IoUMetric, iou_metrics=['mIoU'])
test_evaluator = val_evaluator
