# The same with cross entropy.
_base_ = './fpn-head_efflite0_topk_1xb8-600_camvid-180x240.py'

model = dict(decode_head=dict(loss_decode=dict(_delete_=True, type='CrossEntropyLoss', avg_non_ignore=True)))
