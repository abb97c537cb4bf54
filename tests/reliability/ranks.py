"""Processes that train together on the CPU, with gloo, and small batches for the model of any shipped config."""

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS
from mmengine.structures import PixelData

from tests.test_configs import (
    SIZE,
    Video,
    leaves,
    packed_clip,
    packed_detection_sample,
    packed_mask_sample,
    packed_sample,
)

IMAGES = 2  # of each process


class RankError(RuntimeError):
    """A process has raised, or has not ended in time."""


def run_ranks(function: Callable, folder: Path, world: int = 2, seconds: float = 120) -> list:
    """Forks processes that share a process group.

    Args:
        function: Takes the rank.
        folder: Not there yet.
        world: Number of processes.
        seconds: How long one may wait for another; all of it may take twice as long.

    Returns:
        What the function returned in each process.

    Raises:
        RankError: One of them raised, or did not end.
    """
    folder.mkdir(parents=True)
    sys.stdout.flush()
    children = {}
    for rank in range(world):
        child = os.fork()
        if not child:
            _be_rank(function, rank, world, folder, seconds)
        children[child] = rank
    end, problems = time.monotonic() + 2 * seconds, []
    while children and time.monotonic() < end:
        for child in list(children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                rank = children.pop(child)
                if status:
                    error = folder / f'error{rank}'
                    problems.append(f'rank {rank}: {error.read_text() if error.is_file() else f"status {status}"}')
                    end = min(end, time.monotonic() + 5)  # the others may wait for it
        time.sleep(0.02)
    for child, rank in children.items():
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        problems.append(f'rank {rank} did not end')
    if problems:
        raise RankError('\n'.join(problems))
    return [torch.load(folder / f'rank{rank}', weights_only=False) for rank in range(world)]


def _be_rank(function: Callable, rank: int, world: int, folder: Path, seconds: float) -> None:
    """Is a process from its fork to its end."""
    try:
        log = os.open(folder / f'log{rank}', os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        torch.set_num_threads(1)
        dist.init_process_group(
            'gloo',
            init_method=f'file://{folder}/store',
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=seconds),
        )
        torch.save(function(rank), folder / f'rank{rank}')
        dist.barrier()  # gloo aborts a process that exits while the other still talks to it
        os._exit(0)
    except BaseException as error:  # the child must not go on as its parent
        (folder / f'error{rank}').write_text(''.join(traceback.format_exception(error)))
        os._exit(1)


def kind_of(cfg: Config) -> str:
    """Which kind of batch the model of a config takes."""
    if cfg.model.type == 'mmplugins.AOT':
        return 'video'
    if 'panoptic_head' in cfg.model:
        return 'masks'
    return {'mmseg': 'segmentor', 'mmdet': 'detector'}[cfg.default_scope]


def build_model(cfg: Config, initialise: bool = False) -> torch.nn.Module:
    """Builds the model of a config for small images, each time with the same weights.

    Args:
        cfg: The config; changed in place.
        initialise: Whether to call ``init_weights``, which downloads what a config begins from.
    """
    cfg.model.backbone.init_cfg = None
    if kind_of(cfg) == 'segmentor':
        cfg.model.data_preprocessor.size = (SIZE, SIZE)  # else it pads to the crop
    if kind_of(cfg) == 'masks':
        cfg.model.data_preprocessor.update(batch_augments=None, pad_size_divisor=1)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    if initialise:
        model.init_weights()
    return revert_sync_batchnorm(model).train()


def batch_of(cfg: Config, folder: Path, rank: int, empty: bool = False) -> list[dict]:
    """Two images or clips of a rank.

    Args:
        cfg: The config, whose training pipeline they go through.
        folder: Where their files are written.
        rank: Each has images of its own.
        empty: Whether they have no objects, or no valid pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random.seed(rank)
    np.random.seed(rank)  # noqa: NPY002 (which the pipelines draw from)
    torch.manual_seed(rank)
    kind = kind_of(cfg)
    if kind == 'video':
        datasets, video = leaves(cfg.train_dataloader.dataset), Video(folder)
        samples = [packed_clip(datasets[i % len(datasets)], video) for i in range(IMAGES)]
    elif kind == 'segmentor':
        samples = [packed_sample(cfg, folder, IMAGES * rank + i) for i in range(IMAGES)]
    elif kind == 'detector':
        samples = [packed_detection_sample(cfg, folder, i, 0 if empty else 3 - i) for i in range(IMAGES)]
    else:
        samples = [packed_mask_sample(cfg, folder, int(empty)) for _ in range(IMAGES)]
    generator = torch.Generator().manual_seed(rank)
    for sample in samples:
        image, data = sample['inputs'].float(), sample['data_samples']
        sample['inputs'] = image + 40 * torch.rand(image.shape, generator=generator)
        if not empty:
            continue
        if kind == 'video':
            data.gt_sem_seg.data[:] = 0
            data.set_metainfo(dict(num_objects=0))
        elif 'gt_sem_seg' in data:
            name = 'sem_seg' if kind == 'masks' else 'data'
            data.gt_sem_seg = PixelData(**{name: torch.full_like(data.gt_sem_seg.get(name), 255)})
    return samples


def set_iteration(number: int) -> None:
    """Tells losses and models that depend on the iteration, as the runner does."""
    MessageHub.get_current_instance().update_info('iter', number)
