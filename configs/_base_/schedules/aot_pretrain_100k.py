# AOT's pre-training on static images as released: twice the rate of the main training, less decay.
_base_ = './aot_100k.py'
max_iters = 100000
lr = 0.0004
min_lr = 0.00002
optim_wrapper = dict(
    optimizer=dict(lr=lr, weight_decay=0.03),
    paramwise_cfg=dict(custom_keys={'encoder.backbone': dict(lr_mult=(0.1 * (lr - min_lr) + min_lr) / lr)}),
)
