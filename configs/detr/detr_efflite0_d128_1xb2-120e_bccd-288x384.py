# The blood cells at one and a half times the size, which platelets need: 120 epochs that go on from what the smaller
# size taught. Give the checkpoint: --cfg-options load_from=FILE.
_base_ = './detr_efflite0_d128_1xb2-240e_bccd-192x256.py'
max_epochs = 120
scale = (384, 288)  # width, height

train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[3].scale = test_pipeline[1].scale = scale
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
param_scheduler[1].T_max = max_epochs - param_scheduler[1].begin
train_cfg = dict(max_epochs=max_epochs)
