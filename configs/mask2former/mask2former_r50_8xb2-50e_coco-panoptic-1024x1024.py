# Mask2Former as released for COCO panoptic but for what README.md lists: ResNet-50, 50 epochs of 8 GPUs x 2,
# large-scale jittering.
_base_ = [
    '../_base_/models/mask2former_r50.py',
    '../_base_/datasets/coco-panoptic_1024x1024.py',
    '../_base_/schedules/mask2former_368k.py',
    '../_base_/default_runtime_det.py',
]
image_size = (1024, 1024)

model = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(
                type='BatchFixedSizePad',
                size=image_size,
                img_pad_value=0,
                pad_mask=True,
                mask_pad_value=0,
                pad_seg=True,
                seg_pad_value=255,
            )
        ]
    )
)
default_hooks = dict(checkpoint=dict(save_best='coco_panoptic/PQ'))
visualizer = dict(type='mmplugins.PanopticVisualizer')
