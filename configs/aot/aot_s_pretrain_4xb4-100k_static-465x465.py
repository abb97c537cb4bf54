# AOT-S on synthetic clips of static images, as released but for what the README lists: what it begins the main training
# from.
_base_ = [
    '../_base_/models/aot_s.py',
    '../_base_/datasets/static-vos_465x465.py',
    '../_base_/schedules/aot_pretrain_100k.py',
    '../_base_/default_runtime_vos.py',
]

# The memory always sees the truth; the reference frame's losses fall to 0 over a tenth of the training.
model = dict(train_cfg=dict(own_masks_from=None, aux_loss_steps=10000))
