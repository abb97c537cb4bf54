# Blood cells with a small DETR from scratch, for two CPU cores.
_base_ = [
    '../_base_/models/detr_r18-w32.py',
    '../_base_/datasets/bccd_192x256.py',
    '../_base_/schedules/detr_scratch_150e.py',
    '../_base_/default_runtime_det.py',
]

model = dict(bbox_head=dict(num_classes=3))
randomness = dict(seed=0)
