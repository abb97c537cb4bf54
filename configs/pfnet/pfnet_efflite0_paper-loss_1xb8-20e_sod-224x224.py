# The same with the structure loss as the paper has it.
_base_ = './pfnet_efflite0_1xb8-20e_sod-224x224.py'

model = dict(decode_head=dict(loss_decode=dict(variant='paper')))
