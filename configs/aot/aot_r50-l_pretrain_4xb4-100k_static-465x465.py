# R50-AOT-L on synthetic clips of static images, as released but for what the README lists.
# What it trains is what the main training begins from.
_base_ = ['../_base_/models/aot_r50-l.py', '../_base_/aot_pretrain.py']

model = dict(train_cfg=_base_.pretrain_cfg)
