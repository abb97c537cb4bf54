# The same with plain binary cross entropy on all four maps.
_base_ = './pfnet_efflite0_1xb8-20e_sod-224x224.py'

bce = dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True, loss_name='loss_bce')
model = dict(decode_head=dict(loss_positioning=bce, loss_decode=bce))
