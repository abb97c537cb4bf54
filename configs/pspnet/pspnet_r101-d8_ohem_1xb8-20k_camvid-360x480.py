_base_ = './pspnet_r101-d8_ce_1xb8-20k_camvid-360x480.py'

model = dict(
    decode_head=dict(
        loss_decode=dict(_delete_=True, type='mmplugins.OhemCrossEntropyLoss', thresh=0.7, min_kept=100000)
    )
)
