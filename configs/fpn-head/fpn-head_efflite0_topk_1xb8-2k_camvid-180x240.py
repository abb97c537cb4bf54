# The same for 2,000 iterations.
_base_ = './fpn-head_efflite0_topk_1xb8-600_camvid-180x240.py'
max_iters = 2000

model = dict(decode_head=dict(loss_decode=dict(hard_example_mining_step=max_iters // 2)))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=100, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
