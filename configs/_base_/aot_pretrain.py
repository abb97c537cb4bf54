# Data, schedule and runtime of AOT's pre-training, the same for every size of the model.
_base_ = [
    'datasets/static-vos_465x465.py',
    'schedules/aot_pretrain_100k.py',
    'default_runtime_vos.py',
]
# The memory always sees the truth; the reference frame's losses fall to 0 over a tenth of the training.
pretrain_cfg = dict(own_masks_from=None, aux_loss_steps=10000)
find_unused_parameters = False  # so that the identity bank is trained to the end
