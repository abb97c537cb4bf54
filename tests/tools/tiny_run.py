"""A network, a data set and a config that train on the CPU within a second; for the tests of the tools."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import HOOKS, DefaultScope
from mmengine.visualization import Visualizer
from PIL import Image

ROOT = Path(__file__).parents[2]
CLASSES = ('ground', 'left', 'right')

# Values in capitals are put in by write_config.
CONFIG = """
default_scope = 'mmseg'
custom_imports = dict(imports=['mmplugins', 'tests.tools.tiny_run'], allow_failed_imports=False)
randomness = dict(seed=3)
norm_cfg = dict(type='NORM', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[127.0] * 3, std=[64.0] * 3, bgr_to_rgb=True, size=(32, 48), seg_pad_val=255),
    backbone=dict(
        type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, strides=(1, 1, 1, 1), norm_cfg=norm_cfg,
        norm_eval=NORM_EVAL),
    decode_head=dict(
        type='FCNHead', in_channels=64, in_index=3, channels=8, num_convs=1, num_classes=3, concat_input=False,
        dropout_ratio=DROPOUT, norm_cfg=HEAD_NORM, align_corners=False, loss_decode=LOSS),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=FLIP),
    dict(type='PackSegInputs')]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
dataset = dict(
    type='BaseSegDataset',
    data_root='DATA',
    data_prefix=dict(img_path='images', seg_map_path='annotations'),
    img_suffix='.png',
    metainfo=dict(classes=CLASSES, palette=[[128, 0, 0], [0, 128, 0], [0, 0, 128]]))
train_dataloader = dict(
    batch_size=BATCH,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.0))
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=6, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
    visualization=dict(type='SegVisualizationHook'))
custom_hooks = HOOKS
log_processor = dict(by_epoch=False)
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')
"""


@HOOKS.register_module()
class KillHook(Hook):
    """Kills the process at the end of an iteration, before its checkpoint is written."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class RecordHook(Hook):
    """Writes each iteration's loss and batch to ``rank{n}.json`` in the work dir."""

    def __init__(self) -> None:
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        images = [sample.img_path.rpartition('/')[2] for sample in data_batch['data_samples']]
        self.seen.append(dict(loss=outputs['loss'].item(), images=images))
        Path(runner.work_dir, f'rank{runner.rank}.json').write_text(json.dumps(self.seen))


@HOOKS.register_module()
class BreakFileHook(Hook):
    """Empties a file when the third iteration is through."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter == 2:
            self.path.write_bytes(b'')


def make_data(folder: Path, count: int = 6) -> Path:
    """Writes images of 32x48 pixels with a patch each to the left and to the right, and their labels."""
    random = np.random.default_rng(0)
    for name in ('images', 'annotations'):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        image = random.integers(60, 120, (32, 48, 3), dtype=np.uint8)
        label = np.zeros((32, 48), np.uint8)
        for value, left in ((1, 4), (2, 28)):
            top = random.integers(2, 14)
            label[top : top + 14, left : left + 16] = value
            image[top : top + 14, left : left + 16, value] += 120
        Image.fromarray(image).save(folder / 'images' / f'{index}.png')
        Image.fromarray(label).save(folder / 'annotations' / f'{index}.png')
    return folder


def write_config(path: Path, data: Path, **values: object) -> Path:
    """Writes the config; ``values`` are those in capitals, by their names in small letters."""
    settings = dict(
        norm='BN',
        head_norm=dict(type='BN'),
        norm_eval=False,
        dropout=0.0,
        flip=0.0,
        batch=2,
        iterations=2,
        hooks=[],
        loss=dict(type='CrossEntropyLoss'),
    )
    unknown = set(values) - set(settings)
    if unknown:
        raise TypeError(f'unknown settings {unknown}')
    text = CONFIG.replace("'DATA'", repr(str(data))).replace('CLASSES', repr(CLASSES))
    settings.update(values)
    text = text.replace("'NORM'", repr(settings.pop('norm')))
    for name in sorted(settings, key=len, reverse=True):  # NORM_EVAL before NORM
        text = text.replace(f'={name.upper()}', f'={settings[name]!r}').replace(
            f'= {name.upper()}\n', f'= {settings[name]!r}\n'
        )
    path.write_text(text)
    return path


def run_here(main: Callable, *arguments: object) -> object:
    """Calls a tool's main in this process, on one thread as ``run`` does, and forgets mmengine's globals after it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return main([str(argument) for argument in arguments])
    finally:
        torch.set_num_threads(threads)
        # as mmengine.testing.RunnerTestCase does
        for manager in (MessageHub, MMLogger, DefaultScope, Visualizer, *Visualizer.__subclasses__()):
            manager._instance_dict.clear()


def run(*command: object, fails: bool = False, **environment: str) -> subprocess.CompletedProcess:
    """Runs a tool of ours in its own process, from the root; a Python file with this Python.

    Returns:
        The finished process; ``stdout`` holds what it wrote, errors included.
    """
    command = [str(part) for part in command]
    if command[0].endswith('.py'):
        command.insert(0, sys.executable)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'PATH': path, 'OMP_NUM_THREADS': '1', **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert fails or done.returncode == 0, done.stdout
    return done


# Beginnings of warnings that stay, because the user may do something; docs/reliability.md says what.
EXPLAINED = ('Default ``avg_non_ignore`` is False', 'Setting MKL_NUM_THREADS')


def unexplained_warnings(text: str) -> list[str]:
    """Warnings in a tool's output, of mmengine's log and of Python, that docs/reliability.md does not tell of."""
    found = re.findall(r'^(?:\S+:\d+: \w*Warning: |.* - WARNING - )(.*)$', text, re.MULTILINE)
    return [warning for warning in found if not warning.startswith(EXPLAINED)]


def free_port() -> str:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return str(listener.getsockname()[1])
