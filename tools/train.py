"""Trains a model from a config of any toolbox on mmengine: ``python tools/train.py CONFIG``."""

import gc
import logging
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence

# Before torch starts its threads: those that wait go to sleep. Spinning, they hold cores that another program works on,
# and a small training beside it takes many times as long. What the environment says comes first.
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log

from mmplugins.engine.checkpoints import CheckpointFitHook
from mmplugins.engine.data_errors import FileFault, name_files
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
from mmplugins.engine.run_record import RunRecordHook
from mmplugins.engine.whole_files import GO_ON, latest_whole
from mmplugins.engine.work_dirs import check_work_dir, named_if_full


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
    parser.add_argument(
        '--amp',
        nargs='?',
        const='default',
        type=precision,
        metavar='float16|bfloat16',
        help="train in mixed precision; without a value in the config's, else in float16, on the CPU in bfloat16",
    )
    parser.add_argument(
        '--channels-last', action='store_true', help='lay the weights out channels last, which convolutions prefer'
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='first run `python -m mmplugins.doctor CONFIG --data`, and stop where it finds an error',
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        cfg = load_config(args, __file__)
        if args.check and is_first_process():
            check_first(cfg)
        set_resume(cfg, args.resume)
        set_precision(cfg, args.amp)
        check_data(cfg, 'train_dataloader', 'val_dataloader')
        check_work_dir(cfg)
        with named_if_full(cfg.work_dir, GO_ON):
            runner = build_runner(cfg)
            name_files(runner, cfg)
            if args.channels_last:
                runner.model.to(memory_format=torch.channels_last)
            runner.register_hook(SafeCheckpointHook())
            runner.register_hook(RunRecordHook(args.config, argv))
            runner.register_hook(CheckpointFitHook('--resume' if cfg.get('resume') else 'load_from'))
            runner.train()
    except UsageError as error:
        sys.exit(f'train.py: error: {error}')
    except FileFault as error:
        print_log(str(error), 'current', logging.ERROR)  # with the traceback of a worker
        sys.exit(f'train.py: error: {error.short}')
    del runner
    leave_process_group()


def is_first_process() -> bool:
    """Whether no other process of the launcher comes before this one; the process group is not there yet."""
    return all(os.environ.get(name, '0') == '0' for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'))


def check_first(cfg: Config) -> None:
    """Prints what the doctor says of the config.

    Raises:
        UsageError: It found an error.
    """
    from mmplugins.doctor.check import check

    report = check(cfg, data=True, tell=lambda finding: print(finding, flush=True))
    print(report.summary, flush=True)
    if report.count('error'):
        raise UsageError(f'--check: {report.summary}, see above; nothing was trained')
    gc.collect()
    torch.cuda.empty_cache()  # of the model that was tried


def set_resume(cfg: Config, resume: str | None) -> None:
    """Decides what the run starts from.

    Args:
        cfg: The config; ``resume`` and ``load_from`` are changed in place.
        resume: 'auto' for the latest checkpoint in the work dir, a checkpoint, or None to keep what the config says.
            If 'auto' finds none, the run starts from the beginning, with the config's ``load_from``.

    Raises:
        UsageError: The checkpoint is not there, or is not whole and no other one is.
    """
    if resume == 'auto':
        try:
            latest = latest_whole(cfg.work_dir)
        except FileNotFoundError as error:
            raise UsageError(f'--resume: {error}') from error
        cfg.resume = latest is not None
        if latest is None:
            print_log(f'--resume: no checkpoint in {cfg.work_dir}; training starts from the beginning.', 'current')
        else:
            cfg.load_from = latest
    elif resume is not None:
        cfg.resume, cfg.load_from = True, resume
    if cfg.get('load_from'):
        check_checkpoint(cfg.load_from, '--resume' if resume and cfg.resume else 'load_from')


def precision(text: str) -> str:
    """Checks the value of ``--amp``."""
    if text not in ('float16', 'bfloat16', 'default'):
        raise ArgumentTypeError(f"takes float16, bfloat16 or nothing, got '{text}'; the config comes before --amp")
    return text


def set_precision(cfg: Config, amp: str | None) -> None:
    """Turns mixed precision on if asked for; on the CPU by our wrapper, because mmengine's refuses it.

    Args:
        cfg: The config; ``optim_wrapper`` is changed in place.
        amp: 'float16' or 'bfloat16'; 'default' for the config's, else the device's; None to keep what the config says.

    Raises:
        UsageError: The optimizer wrapper does not do mixed precision.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    kind = type_name(wrapper) or 'OptimWrapper'
    if amp and kind != 'AmpOptimWrapper':
        if kind != 'OptimWrapper' or 'optimizer' not in wrapper:
            raise UsageError(f'--amp works with optim_wrapper.type=OptimWrapper with one optimizer, got {wrapper!r}')
        wrapper.type, wrapper.loss_scale = 'AmpOptimWrapper', 'dynamic'
    elif kind != 'AmpOptimWrapper':
        return
    if amp not in (None, 'default'):
        wrapper.dtype = amp
    if get_device() == 'cpu':
        wrapper.type = 'mmplugins.AmpOptimWrapper'
        dtype = wrapper.get('dtype') or 'bfloat16'
        print_log(f'Mixed precision on the CPU: {dtype}, by mmplugins.AmpOptimWrapper.', 'current')


if __name__ == '__main__':
    main()
