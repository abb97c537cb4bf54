# 20 steps on panopticapi's two photographs: loads, trains, evaluates panoptic quality.
_base_ = [
    '../_base_/models/mask2former_r18.py',
    '../_base_/datasets/panopticapi_256x256.py',
    '../_base_/schedules/mask2former_scratch.py',
    '../_base_/default_runtime_det.py',
]
max_iters = 20

param_scheduler = [dict(type='LinearLR', start_factor=0.1, begin=0, end=max_iters, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=5), checkpoint=dict(interval=max_iters, save_best='coco_panoptic/PQ'))
visualizer = dict(type='mmplugins.PanopticVisualizer')
