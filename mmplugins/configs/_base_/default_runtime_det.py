"""What a run of a detector needs beside model, data and schedule."""

from mmdet.visualization import DetLocalVisualizer
from mmengine.visualization import LocalVisBackend

from mmplugins.engine.hooks import IterSeedHook

default_scope = 'mmdet'

log_level = 'INFO'
load_from = None
resume = False

env_cfg = dict(
    cudnn_benchmark=False,  # images differ in size
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type=LocalVisBackend)]
visualizer = dict(type=DetLocalVisualizer, vis_backends=vis_backends, name='visualizer')
# A run that is resumed ends as one that was not interrupted (exact without data loading workers).
custom_hooks = [dict(type=IterSeedHook)]
