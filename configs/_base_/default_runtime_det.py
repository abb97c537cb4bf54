# The same for detectors.
_base_ = './default_runtime.py'
default_scope = 'mmdet'
env_cfg = dict(cudnn_benchmark=False)  # images differ in size
visualizer = dict(type='DetLocalVisualizer')
