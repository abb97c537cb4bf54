# Mask2Former on ResNet-18 of half the width, from scratch on CamVid at half size: for two CPU cores.
_base_ = [
    '../_base_/models/mask2former_r18-w32_seg.py',
    '../_base_/datasets/camvid_180x240.py',
    '../_base_/schedules/mask2former_scratch.py',
    '../_base_/default_runtime.py',
]
default_hooks = dict(checkpoint=dict(save_best='mIoU'), visualization=dict(_delete_=True, type='SegVisualizationHook'))
