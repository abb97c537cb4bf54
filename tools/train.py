"""Trains a model from a config of any toolbox on mmengine: ``python tools/train.py CONFIG``."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

# Before torch starts its threads: those that wait go to sleep. Spinning, they hold cores that another program works on,
# and a small training beside it takes many times as long. What the environment says comes first.
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.runner import find_latest_checkpoint

from mmplugins.engine.checkpoints import CheckpointFitHook
from mmplugins.engine.hooks import SafeCheckpointHook
from mmplugins.engine.launch import (
    UsageError,
    add_arguments,
    build_runner,
    check_checkpoint,
    check_data,
    leave_process_group,
    load_config,
    type_name,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(description='Train a model.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a value (or with auto) from the latest in the work dir, if there is one',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision (not on the CPU)')
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        cfg = load_config(args, __file__)
        set_resume(cfg, args.resume)
        set_precision(cfg, args.amp)
        check_data(cfg, 'train_dataloader', 'val_dataloader')
        runner = build_runner(cfg)
        runner.register_hook(SafeCheckpointHook())
        runner.register_hook(CheckpointFitHook('--resume' if cfg.get('resume') else 'load_from'))
        runner.train()
    except UsageError as error:
        sys.exit(f'train.py: error: {error}')
    del runner
    leave_process_group()


def set_resume(cfg: Config, resume: str | None) -> None:
    """Decides what the run starts from.

    Args:
        cfg: The config; ``resume`` and ``load_from`` are changed in place.
        resume: 'auto' for the latest checkpoint in the work dir, a checkpoint, or None to keep what the config says.
            If 'auto' finds none, the run starts from the beginning, with the config's ``load_from``.

    Raises:
        UsageError: The checkpoint is not there.
    """
    if resume == 'auto':
        latest = find_latest_checkpoint(cfg.work_dir)
        cfg.resume = latest is not None
        if latest is None:
            print_log(f'--resume: no checkpoint in {cfg.work_dir}; training starts from the beginning.', 'current')
        else:
            moved = Path(cfg.work_dir) / Path(latest).name
            cfg.load_from = latest if Path(latest).is_file() or not moved.is_file() else str(moved)
    elif resume is not None:
        cfg.resume, cfg.load_from = True, resume
    if cfg.get('load_from'):
        check_checkpoint(cfg.load_from, '--resume' if resume and cfg.resume else 'load_from')


def set_precision(cfg: Config, amp: bool) -> None:
    """Turns mixed precision on if asked for, and refuses it on the CPU.

    Args:
        cfg: The config; ``optim_wrapper`` is changed in place.
        amp: Whether ``--amp`` was given.

    Raises:
        UsageError: The device or the optimizer wrapper does not do mixed precision.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    kind = type_name(wrapper) or 'OptimWrapper'
    if (amp or kind == 'AmpOptimWrapper') and get_device() == 'cpu':
        mend = (
            'leave it out' if amp else "make optim_wrapper a dict(type='OptimWrapper', ...) without loss_scale, dtype"
        )
        raise UsageError(
            f'{"--amp" if amp else "optim_wrapper.type=AmpOptimWrapper"} needs CUDA (or an NPU, MLU, MUSA device), '
            f'and torch sees none (driver? CUDA_VISIBLE_DEVICES?); to train on the CPU, {mend}'
        )
    if not amp or kind == 'AmpOptimWrapper':
        return
    if kind != 'OptimWrapper' or 'optimizer' not in wrapper:
        raise UsageError(f'--amp works with optim_wrapper.type=OptimWrapper with one optimizer, got {wrapper!r}')
    wrapper.type = 'AmpOptimWrapper'
    wrapper.loss_scale = 'dynamic'


if __name__ == '__main__':
    main()
