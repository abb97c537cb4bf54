# The same with the hardest 15 % of each image's pixels, annealed over the first half of training.
_base_ = './pspnet_efflite0-d8_ce_1xb8-600_camvid-180x240.py'

model = dict(
    decode_head=dict(
        loss_decode=dict(
            _delete_=True,
            type='mmplugins.TopKCrossEntropyLoss',
            top_k_percent_pixels=0.15,
            hard_example_mining_step=300,
        )
    )
)
