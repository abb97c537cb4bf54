# Mask2Former as released for COCO instances but for what README.md lists: ResNet-50, 50 epochs of 8 GPUs x 2,
# large-scale jittering.
_base_ = [
    '../_base_/models/mask2former_r50.py',
    '../_base_/datasets/coco-instance_1024x1024.py',
    '../_base_/schedules/mask2former_368k.py',
    '../_base_/default_runtime_det.py',
]
num_classes = 80
image_size = (1024, 1024)

model = dict(
    data_preprocessor=dict(
        pad_seg=False,
        batch_augments=[
            dict(
                type='BatchFixedSizePad',
                size=image_size,
                img_pad_value=0,
                pad_mask=True,
                mask_pad_value=0,
                pad_seg=False,
            )
        ],
    ),
    panoptic_head=dict(
        num_things_classes=num_classes, num_stuff_classes=0, loss_cls=dict(class_weight=[1.0] * num_classes + [0.1])
    ),
    panoptic_fusion_head=dict(num_things_classes=num_classes, num_stuff_classes=0),
    test_cfg=dict(panoptic_on=False),
)
default_hooks = dict(checkpoint=dict(save_best='coco/segm_mAP'))
