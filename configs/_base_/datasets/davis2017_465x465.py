# DAVIS 2017, 60 training and 30 validation sequences at 480p, as https://davischallenge.org distributes it:
#
#   data/DAVIS
#   ├── JPEGImages/480p         a folder of *.jpg for each sequence
#   ├── Annotations/480p        the same with *.png, palette images: 0 background, 1, 2, ... objects
#   └── ImageSets/2017          train.txt, val.txt: a sequence a line
#
# For DAVIS 2016, set ann_file='ImageSets/2016/val.txt' and single_object=True.
data_root = 'data/DAVIS/'
crop_size = (465, 465)
short_edge = 480
batch_size = 4
num_workers = 4

clip_pipeline = [
    dict(type='mmplugins.SampleClip', length=5, max_gap=12),
    dict(type='mmplugins.LoadClip', to_float32=True),  # cubics overshoot, and nothing cuts that off
    dict(
        type='TransformBroadcaster',  # the frames of a clip alike
        mapping=dict(img='img', gt_seg_map='gt_seg_map'),
        auto_remap=True,
        share_random_params=True,
        transforms=[
            dict(
                type='RandomResize',
                scale=(100000, short_edge),
                ratio_range=(0.7, 1.3),
                keep_ratio=True,
                interpolation='bicubic',
            ),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
    dict(type='mmplugins.RandomCropClip', crop_size=crop_size, max_objects=10),
]
train_pipeline = [
    *clip_pipeline,
    dict(type='mmplugins.MergeClips', pre_transform=clip_pipeline, prob=0.3),
    dict(type='mmplugins.PackClip'),
]
test_pipeline = [
    dict(type='mmplugins.LoadClip', to_float32=True),
    dict(type='mmplugins.ResizeClip', max_long_edge=1040, interpolation='bicubic'),  # 481x849 of 480x854
    dict(type='mmplugins.LoadClipMasks'),  # after ResizeClip: at the original size
    dict(type='mmplugins.PackClip'),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmplugins.VOSDataset',
        data_root=data_root,
        ann_file='ImageSets/2017/train.txt',
        data_prefix=dict(img_path='JPEGImages/480p', seg_map_path='Annotations/480p'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='mmplugins.VideoSampler'),
    dataset=dict(
        type='mmplugins.VOSDataset',
        data_root=data_root,
        ann_file='ImageSets/2017/val.txt',
        data_prefix=dict(img_path='JPEGImages/480p', seg_map_path='Annotations/480p'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmplugins.VOSMetric')
test_evaluator = val_evaluator
