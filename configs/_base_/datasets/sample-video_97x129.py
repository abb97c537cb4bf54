# Videos of moving textured shapes, made in a minute by
# `python tools/dataset_converters/make_sample_data.py data/sample_video --kind video --size 97x129 --train 48 --val 8`
_base_ = './davis2017_465x465.py'
data_root = 'data/sample_video/'
crop_size = (97, 129)  # height, width
batch_size = 4

clip_pipeline = [
    dict(type='mmplugins.SampleClip', length=5, max_gap=3, min_pixels=50),
    dict(type='mmplugins.LoadClip'),
    dict(
        type='TransformBroadcaster',
        mapping=dict(img='img', gt_seg_map='gt_seg_map'),
        auto_remap=True,
        share_random_params=True,
        transforms=[
            dict(type='RandomResize', scale=(1000, 97), ratio_range=(0.7, 1.3), keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
        ],
    ),
    dict(type='mmplugins.RandomCropClip', crop_size=crop_size, min_pixels=20),
]
train_pipeline = [
    *clip_pipeline,
    dict(type='mmplugins.MergeClips', pre_transform=clip_pipeline, prob=0.3, min_pixels=20),
    dict(type='mmplugins.PackClip'),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,  # reading is next to nothing here, and two cores are better left to the network
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
