# Mask2Former on ResNet-18 of half the width, from scratch on textured shapes, which a tool of ours makes: things,
# stuff, crowds and void without a download, for a CPU.
_base_ = [
    '../_base_/models/mask2former_r18.py',
    '../_base_/datasets/sample-panoptic_96x128.py',
    '../_base_/schedules/mask2former_scratch.py',
    '../_base_/default_runtime_det.py',
]
num_things_classes = 7
num_classes = 8

model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    panoptic_head=dict(
        in_channels=[32, 64, 128, 256],
        num_things_classes=num_things_classes,
        num_stuff_classes=num_classes - num_things_classes,
        num_queries=20,
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1]),
    ),
    panoptic_fusion_head=dict(
        num_things_classes=num_things_classes, num_stuff_classes=num_classes - num_things_classes
    ),
    train_cfg=dict(num_points=512),  # for masks of 24x32
    test_cfg=dict(max_per_image=20),
)
default_hooks = dict(checkpoint=dict(save_best='coco_panoptic/PQ'))
visualizer = dict(type='mmplugins.PanopticVisualizer')
