# CamVid at half size with AOT's decoder on a pretrained EfficientNet-Lite0 and the hardest 15 % of pixels, for two CPU
# cores.
_base_ = [
    '../_base_/models/fpn-head_efflite0.py',
    '../_base_/datasets/camvid_180x240.py',
    '../_base_/schedules/schedule_finetune_600.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=(180, 240)),  # height, width
    decode_head=dict(loss_decode=dict(hard_example_mining_step=300)),
)
randomness = dict(seed=0)
