# Images with masks, of which synthetic videos are made, for pre-training: the five sets that AOT is pre-trained on, in
# the layout of its released code. Validation on DAVIS 2017 (see davis2017_465x465.py).
#
#   data/static
#   ├── JPEGImages              COCO, ECSSD, MSRA10K, PASCAL-S, PASCALVOC2012: folders of *.jpg or *.png
#   └── Annotations             the same folders, *.png: palette images of objects for COCO and PASCALVOC2012 (0
#                               background, 1, 2, ... objects, 255 ignored), grey images for the others
_base_ = './davis2017_465x465.py'
static_root = 'data/static/'

image_clip_pipeline = [
    dict(type='mmplugins.LoadClip'),
    dict(type='mmplugins.LoadClipMasks'),
    dict(
        type='TransformBroadcaster',
        mapping=dict(img='img', gt_seg_map='gt_seg_map'),
        auto_remap=True,
        share_random_params=True,
        transforms=[dict(type='RandomFlip', prob=0.5)],
    ),
    dict(
        type='mmplugins.SyntheticClip',
        size=_base_.crop_size,
        length=5,
        interpolation='bicubic',
        backend='pillow',
        color_jitter=dict(brightness=0.1, contrast=0.1, saturation=0.1, hue=0.03),
    ),
]
image_train_pipeline = [
    *image_clip_pipeline,
    dict(type='mmplugins.MergeClips', pre_transform=image_clip_pipeline, prob=1.0),
    dict(type='mmplugins.PackClip'),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                type='mmplugins.StaticVOSDataset',
                data_root=static_root,
                data_prefix=dict(img_path=f'JPEGImages/{name}', seg_map_path=f'Annotations/{name}'),
                mask_threshold=threshold,
                check_files=False,  # 100,000 images; a faulty one is named when its turn comes
                pipeline=image_train_pipeline,
            )
            for name, threshold in (
                *(('COCO', None), ('ECSSD', 127), ('MSRA10K', 127)),
                *(('PASCAL-S', 127), ('PASCALVOC2012', None)),
            )
        ],
    ),
)
