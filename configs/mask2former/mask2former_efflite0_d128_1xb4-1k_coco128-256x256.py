# Mask2Former on a pretrained EfficientNet-Lite0, on 96 photographs of COCO at 256 pixels: to see that instances train;
# so few images do not generalise.
_base_ = [
    '../_base_/models/mask2former_efflite0.py',
    '../_base_/datasets/coco128-instance_256x256.py',
    '../_base_/schedules/mask2former_scratch.py',
    '../_base_/default_runtime_det.py',
]
num_classes = 80

model = dict(
    data_preprocessor=dict(pad_seg=False),
    panoptic_head=dict(
        num_things_classes=num_classes, num_stuff_classes=0, loss_cls=dict(class_weight=[1.0] * num_classes + [0.1])
    ),
    panoptic_fusion_head=dict(num_things_classes=num_classes, num_stuff_classes=0),
    test_cfg=dict(panoptic_on=False),
)
default_hooks = dict(checkpoint=dict(save_best='coco/segm_mAP'))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
randomness = dict(seed=0)
