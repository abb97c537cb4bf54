# MaskFormer for COCO panoptic on ResNet-50: the released network, mmdet's shorter training of 75 epochs, 16 GPUs x 1.
_base_ = [
    '../_base_/models/maskformer_r50.py',
    '../_base_/datasets/coco-panoptic_800x1333.py',
    '../_base_/schedules/maskformer_75e.py',
    '../_base_/default_runtime_det.py',
]
visualizer = dict(type='mmplugins.PanopticVisualizer')
