# The same with OHEM; 40,000 pixels are at least 12 % of a batch.
_base_ = './pspnet_efflite0-d8_ce_1xb8-600_camvid-180x240.py'

model = dict(
    decode_head=dict(loss_decode=dict(_delete_=True, type='mmplugins.OhemCrossEntropyLoss', thresh=0.7, min_kept=40000))
)
