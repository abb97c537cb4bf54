# SwinB-AOT-L: Swin-B without its last stage, which ends at stride 16; sizes 16 k, corners not aligned.
_base_ = './aot_l.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmseg.SwinTransformer',
        embed_dims=128,
        depths=(2, 2, 18),
        num_heads=(4, 8, 16),
        window_size=7,
        # 0.3 over all 24 blocks of Swin-B: at the 22nd
        drop_path_rate=0.3 * 21 / 23,
        out_indices=(0, 1, 2),
        frozen_stages=1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/swin/'
            'swin_base_patch4_window7_224_20220317-e9b98025.pth',
        ),
    ),
    in_channels=[128, 256, 512, 512],
    align_corners=False,
)
