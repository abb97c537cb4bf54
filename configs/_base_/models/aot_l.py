# AOT-L: as AOT-B, and frames join the long-term memory, in training every 2 frames, in inference every 5.
_base_ = './aot_b.py'

model = dict(train_cfg=dict(gap=2), test_cfg=dict(gap=5))
