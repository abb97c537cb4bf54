# The same with the hardest 15 % of each image's pixels, annealed over the first half of training; no released recipe.
_base_ = './pspnet_r101-d8_ce_4xb2-40k_cityscapes-769x769.py'

model = dict(
    decode_head=dict(
        loss_decode=dict(
            _delete_=True,
            type='mmplugins.TopKCrossEntropyLoss',
            top_k_percent_pixels=0.15,
            hard_example_mining_step=20000,
        )
    )
)
