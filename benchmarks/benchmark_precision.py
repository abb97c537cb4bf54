"""Measures training steps of a config in float32 and in mixed precision, with weights channels first and last.

    python benchmarks/benchmark_precision.py CONFIG [--steps 10] [--dtype bfloat16] [--cfg-options KEY=VALUE ...]

Four models from the same weights take turns on the same batches, in this process; what is timed is a whole step but
the reading of its data. The table has the median in milliseconds, the ratio to float32, channels first, and the loss of
the last step. Measure on a quiet machine.
"""

import copy
import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MessageHub
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmplugins.engine.launch import CfgOptions, UsageError, check_data, load_config, type_name

WARM_UP = 2  # steps that are not counted


def measure(cfg: Config, dtype: str, steps: int) -> dict[str, tuple[list[float], float]]:
    """Runs the training steps.

    Args:
        cfg: The config.
        dtype: Of mixed precision, 'bfloat16' or 'float16'.
        steps: How many steps to count.

    Returns:
        By contender the seconds of each step, and the loss of the last.

    Raises:
        UsageError: The config's optimizer wrapper is another one.
    """
    if type_name(cfg.optim_wrapper) not in ('', 'OptimWrapper'):
        raise UsageError(f'optim_wrapper.type should be OptimWrapper, got {cfg.optim_wrapper.type}')
    torch.manual_seed(0)
    first = revert_sync_batchnorm(MODELS.build(cfg.model)).to(get_device()).train()
    contenders = {}
    for name, mixed, last in (
        ('float32', False, False),
        ('float32, channels last', False, True),
        (dtype, True, False),
        (f'{dtype}, channels last', True, True),
    ):
        model, wrapper = copy.deepcopy(first), copy.deepcopy(cfg.optim_wrapper)
        if last:
            model.to(memory_format=torch.channels_last)
        if mixed:
            wrapper.update(type='mmplugins.AmpOptimWrapper', dtype=dtype)
        contenders[name] = model, build_optim_wrapper(model, wrapper)

    loader = {**cfg.train_dataloader, 'num_workers': 0, 'persistent_workers': False}
    batches = iter(Runner.build_dataloader(loader, seed=0))
    seconds, losses, order = {name: [] for name in contenders}, {}, list(contenders)
    for step in range(WARM_UP + steps):
        MessageHub.get_current_instance().update_info('iter', step)  # some losses depend on it
        batch = next(batches)
        for name in order:
            model, optimizer = contenders[name]
            given = copy.deepcopy(batch)
            torch.manual_seed(step)
            began = time.perf_counter()
            losses[name] = model.train_step(given, optimizer)['loss'].item()
            if step >= WARM_UP:
                seconds[name].append(time.perf_counter() - began)
        order.append(order.pop(0))
    return {name: (seconds[name], losses[name]) for name in contenders}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('--steps', type=int, default=10, help='steps to count (default: 10)')
    parser.add_argument('--dtype', choices=['bfloat16', 'float16'], default='bfloat16')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help='override settings')
    parser.set_defaults(work_dir=None, launcher='none')
    args = parser.parse_args(argv)
    try:
        cfg = load_config(args, __file__)
        check_data(cfg, 'train_dataloader')
        found = measure(cfg, args.dtype, args.steps)
    except UsageError as error:
        sys.exit(f'benchmark_precision.py: error: {error}')
    print(f'{args.steps} steps of {args.config} on {get_device()}, {torch.get_num_threads()} threads')
    base = statistics.median(found['float32'][0])
    for name, (seconds, loss) in found.items():
        median = statistics.median(seconds)
        print(f'{name:26}{1e3 * median:10.1f} ms{base / median:8.2f}x   loss {loss:.5f}')


if __name__ == '__main__':
    main()
