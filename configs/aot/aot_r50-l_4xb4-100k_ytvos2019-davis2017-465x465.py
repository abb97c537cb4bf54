# R50-AOT-L on YouTube-VOS 2019 and DAVIS 2017, as released but for what the README lists. It begins from the
# pre-trained model:
# --cfg-options load_from=work_dirs/aot_r50-l_pretrain_4xb4-100k_static-465x465/iter_100000.pth
_base_ = [
    '../_base_/models/aot_r50-l.py',
    '../_base_/datasets/ytvos2019-davis2017_465x465.py',
    '../_base_/schedules/aot_100k.py',
    '../_base_/default_runtime_vos.py',
]
max_iters = 100000
lr = 0.0002
min_lr = 0.00001  # half of the others'

optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'encoder.backbone': dict(lr_mult=(0.1 * (lr - min_lr) + min_lr) / lr)})
)
param_scheduler = [
    dict(type='mmplugins.WarmupPolyLR', warmup=max_iters // 20, power=0.9, eta_min=min_lr, begin=0, end=max_iters)
]
