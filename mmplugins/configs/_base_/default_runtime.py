"""What a run needs beside model, data and schedule."""

from mmengine.visualization import LocalVisBackend
from mmseg.visualization import SegLocalVisualizer

from mmplugins.engine.hooks import IterSeedHook

default_scope = 'mmseg'

log_level = 'INFO'
load_from = None
resume = False

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type=LocalVisBackend)]
visualizer = dict(type=SegLocalVisualizer, vis_backends=vis_backends, name='visualizer')
# A run that is resumed ends as one that was not interrupted (exact without data loading workers).
custom_hooks = [dict(type=IterSeedHook)]
