# AOT-B: three transformer blocks.
_base_ = './aot_t.py'

model = dict(num_blocks=3)
