# CamVid at full size with AOT's decoder on a pretrained EfficientNet-Lite0 and the hardest 15 % of pixels, for two CPU
# cores.
_base_ = [
    '../_base_/models/fpn-head_efflite0.py',
    '../_base_/datasets/camvid_360x480.py',
    '../_base_/schedules/schedule_finetune_600.py',
    '../_base_/default_runtime.py',
]
max_iters = 1600

model = dict(
    data_preprocessor=dict(size=(360, 480)),  # height, width
    decode_head=dict(loss_decode=dict(hard_example_mining_step=max_iters // 2)),
)
train_dataloader = dict(batch_size=4, num_workers=1)
val_dataloader = dict(num_workers=1)
test_dataloader = dict(num_workers=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', eta_min=0.0, power=0.9, begin=100, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
randomness = dict(seed=0)
