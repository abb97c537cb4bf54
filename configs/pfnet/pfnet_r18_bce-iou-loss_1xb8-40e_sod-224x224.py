# The same with cross entropy and soft IoU, each logged by itself, and no edge weight.
_base_ = './pfnet_r18_1xb8-40e_sod-224x224.py'

losses = [
    dict(type='CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True, loss_name='loss_bce'),
    dict(type='mmplugins.SoftIoULoss'),
]
model = dict(decode_head=dict(loss_positioning=losses, loss_decode=losses))
