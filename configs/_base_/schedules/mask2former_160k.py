# Mask2Former on semantic segmentation as released: as on COCO, but 160,000 iterations and a rate that falls as a
# polynomial of power 0.9.
_base_ = './mask2former_368k.py'
max_iters = 160000
# One step more than there are, so that step i has (1 - i / max_iters)^0.9 and the last still has a rate.
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=max_iters + 1, by_epoch=False)]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000)
default_hooks = dict(
    checkpoint=dict(save_best='mIoU'),
    visualization=dict(_delete_=True, type='SegVisualizationHook'),
)
