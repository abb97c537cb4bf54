# DETR as released but for what README.md lists: ResNet-50, COCO, 150 epochs, batch 8 GPUs x 2.
_base_ = [
    '../_base_/models/detr_r50.py',
    '../_base_/datasets/coco-detection_800x1333.py',
    '../_base_/schedules/detr_150e.py',
    '../_base_/default_runtime_det.py',
]
