# CamVid at full size with half the hardest pixels' cross entropy and half the soft Jaccard loss, as AOT mixes them:
# 1,000 iterations after 1,600 with the hardest pixels alone. Give their checkpoint: --cfg-options load_from=FILE.
_base_ = './fpn-head_efflite0_topk_1xb4-1600_camvid-360x480.py'
max_iters = 1000

model = dict(
    decode_head=dict(
        loss_decode=[
            dict(
                type='mmplugins.TopKCrossEntropyLoss',
                top_k_percent_pixels=0.15,
                hard_example_mining_step=1,  # no fewer and fewer pixels, as it goes on
                loss_weight=0.5,
            ),
            dict(type='mmplugins.SoftJaccardLoss', loss_weight=0.5),
        ]
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.002))
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_iters
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
