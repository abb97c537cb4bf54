# MaskFormer as released for ADE20K but for what README.md lists: ResNet-50, 160,000 iterations of 8 GPUs x 2.
_base_ = [
    '../_base_/models/maskformer_r50_seg.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/mask2former_160k.py',
    '../_base_/default_runtime.py',
]
model = dict(type='mmplugins.ClassMapSegmentor')  # labels alone: scores of 150 classes are 600 MB a megapixel
optim_wrapper = dict(optimizer=dict(weight_decay=0.0001))
