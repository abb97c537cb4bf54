# Small models on a pretrained encoder: 1,000 iterations, the encoder at three tenths of the rate.
_base_ = './aot_100k.py'
max_iters = 1000
no_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(lr=0.0006),
    paramwise_cfg=dict(
        custom_keys={
            '_delete_': True,
            'encoder.backbone': dict(lr_mult=0.3),
            'relative_value': no_decay,
            'decoder.out': no_decay,
        }
    ),
)
param_scheduler = [
    dict(type='mmplugins.WarmupPolyLR', warmup=max_iters // 20, power=0.9, eta_min=0.00002, begin=0, end=max_iters)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters, max_keep_ckpts=1))
