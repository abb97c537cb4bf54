# The same with OHEM on the main branch (CriterionOhemDSN), with the released script's settings: the threshold is
# searched at 1/8 size, min_kept counts the pixels of a GPU's two images.
_base_ = './pspnet_r101-d8_ce_4xb2-40k_cityscapes-769x769.py'

model = dict(
    decode_head=dict(
        loss_decode=dict(
            _delete_=True,
            type='mmplugins.OhemCrossEntropyLoss',
            thresh=0.6,
            min_kept=200000,
            threshold_stride=8,
        )
    )
)
