# Blood cells at full size on one GPU, fine-tuned from the released COCO weights; first convert them:
#
#   python tools/model_converters/detr.py detr-r50-e632da11.pth checkpoints/detr_r50_coco.pth
#
# The classifier is new, so mmengine warns that its shape differs. To start from ImageNet weights instead,
# delete load_from and the backbone's init_cfg below: --cfg-options sets no dict.
load_from = 'checkpoints/detr_r50_coco.pth'
_base_ = [
    '../_base_/models/detr_r50.py',
    '../_base_/datasets/bccd_480x640.py',
    '../_base_/schedules/detr_150e.py',
    '../_base_/default_runtime_det.py',
]

model = dict(backbone=dict(init_cfg=None), bbox_head=dict(num_classes=3))

max_epochs = 50
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=2, by_epoch=True, convert_to_iter_based=True),
    dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[40], gamma=0.1),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=5))
randomness = dict(seed=0)
