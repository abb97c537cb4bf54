# Mask2Former as released for Cityscapes but for what README.md lists: ResNet-50 with trained batch norms, 90,000
# iterations of 8 GPUs x 2.
_base_ = [
    '../_base_/models/mask2former_r50_seg.py',
    '../_base_/datasets/cityscapes_512x1024.py',
    '../_base_/schedules/mask2former_160k.py',
    '../_base_/default_runtime.py',
]
num_classes = 19
max_iters = 90000

model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    backbone=dict(norm_cfg=dict(type='SyncBN', requires_grad=True), norm_eval=False),
    decode_head=dict(num_classes=num_classes, loss_cls=dict(class_weight=[1.0] * num_classes + [0.1])),
)
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=max_iters + 1, by_epoch=False)]
train_cfg = dict(max_iters=max_iters)
