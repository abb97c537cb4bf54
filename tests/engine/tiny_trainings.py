"""Small trainings of PSPNet, DETR, Mask2Former and AOT from our own configs, on made data; for the tests of hooks."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from tests.locations import ROOT
from tests.tools.tiny_run import run
from tests.tools.tiny_video import make_videos

KINDS = {'pspnet': 'semantic', 'detr': 'panoptic', 'mask2former': 'panoptic', 'aot': 'video'}


def make_data(folder: Path, kind: str) -> Path:
    """Writes three images for training and two for validation, or two videos."""
    if kind == 'video':
        return make_videos(folder)
    run('tools/dataset_converters/make_sample_data.py', folder, '--kind', kind, '--train', 3, '--val', 2)
    return folder


def training(name: str, data: Path, work_dir: Path, iterations: int = 4, hooks: Sequence[dict] = ()) -> Config:
    """Config of a training that is validated at every second iteration; see ``KINDS`` for names and their data."""
    cfg = globals()[f'_{name}']()
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(data)
    cfg.train_dataloader.update(batch_size=2, sampler=dict(type='InfiniteSampler', shuffle=True))
    for key in ('optim_wrapper', 'train_cfg', 'default_hooks', 'custom_imports'):
        cfg.pop(key, None)
    cfg.update(
        work_dir=str(work_dir),
        launcher='none',
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=2),
        test_cfg=None,
        test_dataloader=None,
        test_evaluator=None,
        env_cfg=dict(cudnn_benchmark=False),
        param_scheduler=[],
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1000),
        ),
        custom_hooks=list(hooks),
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=1),
        log_level='WARNING',
    )
    return cfg


class Trace(Hook):
    """Keeps the losses of each iteration and the metrics of each validation."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.losses, self.metrics = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name: float(value.detach()) for name, value in outputs.items()})

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append(dict(metrics))


def train(cfg: Config, *hooks: Hook) -> tuple[Runner, Trace]:
    """Trains on one thread, and forgets mmengine's globals at the end."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trace = Trace()
    try:
        runner = Runner.from_cfg(cfg)
        for hook in (trace, *hooks):
            runner.register_hook(hook)
        runner.train()
    finally:
        torch.set_num_threads(threads)
        forget()
    return runner, trace


def forget() -> None:
    """Forgets mmengine's globals; a logger of its own is there again, which writes to what is standard output now."""
    managers = [MessageHub, MMLogger, DefaultScope, Visualizer]
    for manager in managers:
        manager._instance_dict.clear()
        managers += manager.__subclasses__()
    MMLogger.get_current_instance()


def _pspnet() -> Config:
    cfg = Config.fromfile(ROOT / 'configs/pspnet/pspnet_r18-d8_w32-ohem_1xb8-400_sample-96x128.py')
    cfg.model.backbone.update(base_channels=8, stem_channels=8)
    cfg.model.decode_head.update(in_channels=64, channels=16, dropout_ratio=0.3)
    cfg.model.auxiliary_head.update(in_channels=32, channels=16)
    return cfg


def _detr() -> Config:
    cfg = Config.fromfile(ROOT / 'configs/mask2former/mask2former_r18_w32-d128_1xb8-1k_sample-panoptic-96x128.py')
    model = Config.fromfile(ROOT / 'configs/_base_/models/detr_r18-w32.py').model
    model.bbox_head.num_classes = 8
    model.num_queries = model.test_cfg.max_per_img = 10
    for part in (model.encoder, model.decoder):
        part.num_layers = 2
        part.layer_cfg.self_attn_cfg.update(attn_drop=0.2)
    cfg.model = model
    cfg.val_dataloader.dataset.pipeline[-1].meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    cfg.val_dataloader.dataset.pipeline.insert(1, dict(type='Resize', scale=(128, 96), keep_ratio=True))
    cfg.val_evaluator = []
    return cfg


def _mask2former() -> Config:
    cfg = Config.fromfile(ROOT / 'configs/mask2former/mask2former_r18_w32-d128_1xb8-1k_sample-panoptic-96x128.py')
    cfg.model.backbone.update(base_channels=8, stem_channels=8)
    head = cfg.model.panoptic_head
    head.in_channels = [8, 16, 32, 64]
    head.num_queries = 10
    head.transformer_decoder.num_layers = 2
    head.pixel_decoder.encoder.num_layers = 1
    head.transformer_decoder.layer_cfg.self_attn_cfg.attn_drop = 0.2
    cfg.model.train_cfg.num_points = 64
    cfg.val_evaluator = []
    return cfg


def _aot() -> Config:
    cfg = Config.fromfile(ROOT / 'configs/aot/aot_t_scratch_1xb2-1500_sample-video-97x129.py')
    cfg.model = Config.fromfile(ROOT / 'configs/_base_/models/aot_t_scratch.py').model
    cfg.model.update(
        backbone=dict(
            type='mmseg.ResNet',
            depth=18,
            num_stages=3,
            base_channels=8,
            stem_channels=8,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(0, 1, 2),
            norm_cfg=dict(type='BN'),
        ),
        in_channels=[8, 16, 32, 32],
        channels=32,
        num_heads=4,
        window=3,
        feedforward_channels=64,
    )
    pipeline = cfg.train_dataloader.dataset.pipeline
    for transform in pipeline + pipeline[-2].pre_transform:
        if transform.type == 'mmplugins.SampleClip':
            transform.length = 3
        if transform.type == 'mmplugins.RandomCropClip':
            transform.crop_size = (33, 49)
    cfg.val_evaluator = []
    return cfg
