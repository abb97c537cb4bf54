# PFNet's settings for salient objects: ResNet-50, DUTS, 416x416, 45 epochs, batch 16.
_base_ = [
    '../_base_/models/pfnet_r50.py',
    '../_base_/datasets/duts_416x416.py',
    '../_base_/schedules/pfnet_45e.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=dict(size=(416, 416)))  # height, width
