# Camouflaged objects: training on COD10K and CAMO (4,040 images), tests on CHAMELEON (76), CAMO (250), COD10K (2,026)
# and NC4K (4,121), in the folders in which the SINet repositories distribute them:
#
#   data/COD
#   ├── TrainDataset        COD10K-train and CAMO-train together
#   │   ├── Imgs            *.jpg
#   │   └── GT              *.png, the same names
#   └── TestDataset
#       ├── CHAMELEON
#       │   ├── Imgs
#       │   └── GT
#       ├── CAMO ...
#       ├── COD10K ...
#       └── NC4K ...
#
# Training sets in folders of their own make one through mmengine's ConcatDataset, as the tests do below.
data_root = 'data/COD/'
scale = (416, 416)  # width, height
batch_size = 16
num_workers = 4

# As released: images and masks are read and resized by Pillow, orientation tags are not applied, the jitter comes last;
# grey values of the masks are soft targets in training.
load_image = dict(type='LoadImageFromFile', color_type='color_ignore_orientation', imdecode_backend='pillow')
resize = dict(type='Resize', scale=scale, keep_ratio=False, backend='pillow')
train_pipeline = [
    load_image,
    dict(type='mmplugins.LoadBinaryMask', grey=True),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    resize,
    dict(type='mmplugins.ColorJitter', brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1),
    dict(type='PackSegInputs'),
    dict(type='mmplugins.SoftMask'),
]
test_pipeline = [
    load_image,
    resize,
    dict(type='mmplugins.LoadBinaryMask'),  # after Resize: metrics are measured at the mask's own size
    dict(
        type='PackSegInputs',
        meta_keys=('img_path', 'seg_map_path', 'ori_shape', 'img_shape', 'scale_factor', 'dataset_name'),
    ),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmplugins.BinaryMaskDataset',
        data_root=data_root,
        data_prefix=dict(img_path='TrainDataset/Imgs', seg_map_path='TrainDataset/GT'),
        pipeline=train_pipeline,
    ),
)
test_sets = [
    dict(
        type='mmplugins.BinaryMaskDataset',
        dataset_name=name,
        data_root=data_root,
        data_prefix=dict(img_path=f'TestDataset/{name}/Imgs', seg_map_path=f'TestDataset/{name}/GT'),
        test_mode=True,
        pipeline=test_pipeline,
    )
    for name in ('CHAMELEON', 'CAMO', 'COD10K', 'NC4K')
]
# The released code does not validate; here the smallest test set shows how training goes.
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=test_sets[0],
)
test_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ConcatDataset', datasets=test_sets),
)
# With output_dir='...' the maps are written as 8-bit PNG, too.
val_evaluator = dict(type='mmplugins.SaliencyMetric')
test_evaluator = val_evaluator
