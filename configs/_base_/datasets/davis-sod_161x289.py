# The few sequences of DAVIS, thirty times, and clips made of a small set of salient objects (see sod_224x224.py), so
# that a network from scratch learns to match and not to know seven objects. Validation on DAVIS (davis_161x289.py).
_base_ = './davis_161x289.py'
sod_root = 'data/sod/'

image_clip_pipeline = [
    dict(type='mmplugins.LoadClip'),
    dict(type='mmplugins.LoadClipMasks'),
    dict(  # moves as small as those of a few frames of a video
        type='mmplugins.SyntheticClip',
        size=_base_.crop_size,
        length=5,
        flip_prob=0,
        degrees=10,
        translate=0.06,
        shear=6,
        crop_area=(0.85, 1.0),
        crop_ratio=(0.9, 1.1),
        min_pixels=20,
    ),
    _base_.colour,
]
image_train_pipeline = [
    *image_clip_pipeline,
    dict(type='mmplugins.MergeClips', pre_transform=image_clip_pipeline, prob=_base_.merge_prob, min_pixels=20),
    dict(type='mmplugins.PackClip'),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        ignore_keys=['label_map', 'reduce_zero_label'],  # what only mmseg's data sets tell
        datasets=[
            dict(type='RepeatDataset', times=30, dataset=dict(**_base_.train_dataloader.dataset, lazy_init=True)),
            dict(
                type='mmplugins.StaticVOSDataset',
                data_root=sod_root,
                data_prefix=dict(img_path='train/Imgs', seg_map_path='train/GT'),
                pipeline=image_train_pipeline,
            ),
        ],
    ),
)
