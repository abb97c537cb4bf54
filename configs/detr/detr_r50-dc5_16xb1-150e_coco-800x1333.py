# The same on a feature map of twice the resolution: stage 5 dilated instead of strided, one image a GPU.
_base_ = './detr_r50_8xb2-150e_coco-800x1333.py'

model = dict(
    backbone=dict(
        # The first block of a dilated stage keeps the dilation of the stage before, as torchvision's does and the
        # released weights need; mmdet's own ResNet would dilate that block too.
        type='mmseg.ResNet',
        contract_dilation=True,
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
    )
)
train_dataloader = dict(batch_size=1)
