# YouTube-VOS 2019, 3,471 training videos of which every fifth frame is annotated, and DAVIS 2017, five times, for
# training; DAVIS 2017 for validation (see davis2017_465x465.py). From https://youtube-vos.org:
#
#   data/ytvos2019/train
#   ├── JPEGImages              a folder of *.jpg for each video
#   ├── Annotations             the same with *.png, palette images: 0 background, 1, 2, ... objects
#   └── meta.json               each object's frames
#
# Its validation set has masks of the frames only in which objects appear, and is evaluated by its server: a test with
# ann_file='valid/meta.json' and data_prefix=dict(img_path='valid/JPEGImages', seg_map_path='valid/Annotations').
_base_ = './davis2017_465x465.py'
ytvos_root = 'data/ytvos2019/'

ytvos_clip_pipeline = [dict(type='mmplugins.SampleClip', length=5, max_gap=3), *_base_.clip_pipeline[1:]]
ytvos_train_pipeline = [
    *ytvos_clip_pipeline,
    dict(type='mmplugins.MergeClips', pre_transform=ytvos_clip_pipeline, prob=0.3),
    dict(type='mmplugins.PackClip'),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                type='mmplugins.VOSDataset',
                data_root=ytvos_root,
                ann_file='train/meta.json',
                data_prefix=dict(img_path='train/JPEGImages', seg_map_path='train/Annotations'),
                filter_cfg=dict(min_frames=2, min_object_frames=2),
                pipeline=ytvos_train_pipeline,
            ),
            dict(type='RepeatDataset', times=5, dataset=dict(**_base_.train_dataloader.dataset, lazy_init=True)),
        ],
    ),
)
