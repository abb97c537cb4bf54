# AOT-S: two transformer blocks.
_base_ = './aot_t.py'

model = dict(num_blocks=2)
