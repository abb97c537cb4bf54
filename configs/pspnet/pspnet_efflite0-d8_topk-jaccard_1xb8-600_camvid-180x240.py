# The same with half the hardest pixels' cross entropy and half the soft Jaccard loss, as AOT mixes them.
_base_ = './pspnet_efflite0-d8_ce_1xb8-600_camvid-180x240.py'

model = dict(
    decode_head=dict(
        loss_decode=[
            dict(
                type='mmplugins.TopKCrossEntropyLoss',
                top_k_percent_pixels=0.15,
                hard_example_mining_step=300,
                loss_weight=0.5,
            ),
            dict(type='mmplugins.SoftJaccardLoss', loss_weight=0.5),
        ]
    )
)
