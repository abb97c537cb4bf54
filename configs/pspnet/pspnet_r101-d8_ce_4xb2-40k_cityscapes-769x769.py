# PSPNet with deep supervision (CriterionDSN), as pytorch-segmentation-toolbox trains it but for what the README lists.
_base_ = [
    '../_base_/models/pspnet_r101-d8.py',
    '../_base_/datasets/cityscapes_769x769.py',
    '../_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py',
]
crop_size = (769, 769)

model = dict(
    data_preprocessor=dict(size=crop_size),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(513, 513)),  # windows overlap by a third
)
