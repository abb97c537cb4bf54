# The same with OHEM on the main branch (CriterionOhemDSN), the threshold searched at 1/8 size as released.
_base_ = './pspnet_r101-d8_ce_4xb2-40k_cityscapes-769x769.py'

model = dict(
    decode_head=dict(
        loss_decode=dict(
            _delete_=True,
            type='mmplugins.OhemCrossEntropyLoss',
            thresh=0.7,
            min_kept=100000,
            threshold_stride=8,
        )
    )
)
