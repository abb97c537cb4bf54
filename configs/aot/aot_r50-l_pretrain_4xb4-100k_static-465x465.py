# R50-AOT-L on synthetic clips of static images, as released: what it begins the main training from.
_base_ = ['../_base_/models/aot_r50-l.py', '../_base_/aot_pretrain.py']

model = dict(train_cfg=_base_.pretrain_cfg)
