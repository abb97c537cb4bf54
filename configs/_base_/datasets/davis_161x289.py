# A few sequences of DAVIS at a third of their size, 480x854, for CPUs; sizes are 16 k + 1. One object in each.
#
#   data/davis
#   ├── JPEGImages/480p         a folder of *.jpg for each sequence
#   ├── Annotations/480p        the same with *.png, palette images: 0 background, 1 object
#   └── ImageSets/2017          train.txt, val.txt: a sequence a line
_base_ = './davis2017_465x465.py'
data_root = 'data/davis/'
crop_size = (161, 161)  # height, width; the frames are 161x289 in tests
batch_size = 3
num_workers = 1
merge_prob = 0.4

move = dict(  # the frames of a clip alike
    type='TransformBroadcaster',
    mapping=dict(img='img', gt_seg_map='gt_seg_map'),
    auto_remap=True,
    share_random_params=True,
    transforms=[
        dict(
            type='RandomResize',
            scale=(10000, 161),  # the shorter side
            ratio_range=(0.9, 1.6),
            keep_ratio=True,
            interpolation='area',
        ),
        dict(type='RandomFlip', prob=0.5),
    ],
)
colour = dict(  # the frames of a clip alike; so few videos would be known by their colours
    type='TransformBroadcaster',
    mapping=dict(img='img'),
    auto_remap=True,
    share_random_params=True,
    transforms=[dict(type='mmplugins.ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2)],
)
clip_pipeline = [
    dict(type='mmplugins.SampleClip', length=5, max_gap=3),
    dict(type='mmplugins.LoadClip'),
    move,
    dict(type='mmplugins.RandomCropClip', crop_size=crop_size, min_pixels=20),
    colour,
]
train_pipeline = [
    *clip_pipeline,
    dict(type='mmplugins.MergeClips', pre_transform=clip_pipeline, prob=merge_prob, min_pixels=20),
    dict(type='mmplugins.PackClip'),
]
test_pipeline = [
    dict(type='mmplugins.LoadClip'),
    dict(type='mmplugins.ResizeClip', max_short_edge=160, interpolation='area'),
    dict(type='mmplugins.LoadClipMasks'),  # after ResizeClip: at the original size
    dict(type='mmplugins.PackClip'),
]

train_dataloader = dict(
    batch_size=batch_size, num_workers=num_workers, dataset=dict(data_root=data_root, pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=num_workers, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
