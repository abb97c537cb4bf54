# AOT-T on YouTube-VOS 2019 and DAVIS 2017, as released but for what the README lists. It begins from the
# pre-trained model:
# --cfg-options load_from=work_dirs/aot_t_pretrain_4xb4-100k_static-465x465/iter_100000.pth
_base_ = [
    '../_base_/models/aot_t.py',
    '../_base_/datasets/ytvos2019-davis2017_465x465.py',
    '../_base_/schedules/aot_100k.py',
    '../_base_/default_runtime_vos.py',
]
