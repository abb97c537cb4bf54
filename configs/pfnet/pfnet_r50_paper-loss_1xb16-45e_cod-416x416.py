# The same with the paper's structure loss: the cross entropy is weighted pixel by pixel, which the release misses.
_base_ = './pfnet_r50_1xb16-45e_cod-416x416.py'

model = dict(decode_head=dict(loss_decode=dict(variant='paper')))
