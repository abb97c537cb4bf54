_base_ = './pspnet_r101-d8_ce_1xb8-20k_camvid-360x480.py'

model = dict(
    decode_head=dict(
        loss_decode=dict(
            _delete_=True,
            type='mmplugins.TopKCrossEntropyLoss',
            top_k_percent_pixels=0.15,
            hard_example_mining_step=10000,
        )
    )
)
