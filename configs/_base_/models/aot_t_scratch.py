# AOT-T without ImageNet's weights, so that batch norm is trained; lengths are those of a training of 1,500 iterations.
_base_ = './aot_t.py'
model = dict(
    backbone=dict(frozen_stages=-1, norm_cfg=dict(requires_grad=True), norm_eval=False, init_cfg=None),
    loss_decode=[
        dict(type='mmplugins.TopKCrossEntropyLoss', hard_example_mining_step=750, loss_weight=0.5),
        dict(type='mmplugins.SoftJaccardLoss', loss_weight=0.5),
    ],
    train_cfg=dict(own_masks_from=750, aux_loss_steps=1500),
)
