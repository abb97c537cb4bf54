"""Does every config train? A row for each: losses, the first value that is not finite, time, and the memory held.

    python tests/reliability/every_config.py --steps 50 --precision bfloat16
    python tests/reliability/every_config.py --steps 3000 --precision float32 --only 'detr/*1xb8*'

Each config's model, of its full width and depth, with its optimizer, clipping and rates, is trained on small random
images that went through the config's own training pipeline: 2 at a time, eight in turns. After each step all losses,
gradients, weights and buffers must be finite. Two things differ from a run of ``tools/train.py --amp``:

- The rate is the config's highest from the first step on: no warm-up, no decay.
- Pretrained weights are read from installed packages only, nothing is downloaded. Other encoders have random weights;
  where their normalisation is frozen, its statistics are first measured on the samples, as features would grow from
  layer to layer otherwise.

Ends with an error if a value is not finite, or if memory grows (``tests/reliability/memory.py``).
"""

import logging
import random
import sys
import tempfile
import time
import traceback
import warnings
from argparse import ArgumentParser
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from mmplugins.doctor.report import quiet
from tests import test_configs, test_mixed_precision
from tests.reliability.memory import curve, grows, held
from tests.test_configs import DETECTORS, MASK_DETECTORS, SEGMENTORS, VIDEO_SEGMENTORS, load
from tests.test_mixed_precision import keep_small, samples_of
from tools.train import set_precision

KINDS = {'segmentor': SEGMENTORS, 'masks': MASK_DETECTORS, 'detector': DETECTORS, 'video': VIDEO_SEGMENTORS}
SAMPLES, BATCH = 8, 2
FIRST = 5  # the step after which memory is first noted: buffers of optimizers are there


class Row(NamedTuple):
    """What came of a config.

    Attributes:
        first: Loss of the first step.
        last: Loss of the last step.
        problem: The first value that is not finite, and its step, or what was raised; empty: none.
        seconds: Of the steps.
        held: MB held, at even intervals from step FIRST on.
    """

    first: float
    last: float
    problem: str
    seconds: float
    held: list[float]

    def __str__(self) -> str:
        memory = [self.held[0], self.held[len(self.held) // 2], self.held[-1]] if self.held else []
        return (
            f'{self.first:10.4f} {self.last:10.4f}  {self.problem or "finite":8} {self.seconds:7.1f} s  '
            + '/'.join(f'{value:.0f}' for value in memory)
            + ' MB'
        )


def without_downloads(node: object) -> None:
    """Takes pretrained weights out of a model's config, in place, but for those of an installed package."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ():
        without_downloads(child)
    init = node.get('init_cfg') if isinstance(node, dict) else None
    if isinstance(init, dict) and not init.get('checkpoint', 'package://').startswith('package://'):
        node['init_cfg'] = None


def measure_frozen_norms(model: nn.Module, batches: list[list[dict]]) -> None:
    """Gives frozen batch norms the statistics of the samples; those that end an untrained residual branch count too."""
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.training and not module.running_mean.any()
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        if not norm.weight.any():
            nn.init.ones_(norm.weight)
        norm.train()
        norm.momentum = None  # the mean over all batches
    if norms:
        with torch.no_grad():
            for samples in batches:
                model(**model.data_preprocessor(pseudo_collate(samples), training=True), mode='loss')
    model.train()  # frozen ones go back
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def not_finite(named: Iterable[tuple[str, torch.Tensor | None]]) -> str:
    """Name of the first tensor that has a value which is not finite; empty: none."""
    tensors = {
        name: value.detach()
        for name, value in named
        if value is not None and value.is_floating_point() and value.numel()
    }
    if not tensors or torch.stack([value.abs().amax().float() for value in tensors.values()]).isfinite().all():
        return ''
    return next((name for name, value in tensors.items() if not value.isfinite().all()), '')


@quiet(logging.WARNING)  # how each weight is initialised, and each frozen one
def build(cfg: Config, kind: str, precision: str, folder: Path):
    """Gives the model, its optimizer wrapper and the batches of samples."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the generator that transforms use)
    torch.manual_seed(0)
    samples = samples_of(cfg, kind, folder, range(SAMPLES))
    batches = [samples[start : start + BATCH] for start in range(0, SAMPLES, BATCH)]
    keep_small(cfg, kind)
    without_downloads(cfg.model)
    set_precision(cfg, None if precision == 'float32' else precision)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    MessageHub.get_current_instance().update_info('iter', 0)  # as the runner does; some losses depend on it
    measure_frozen_norms(model.train(), batches)
    return model, build_optim_wrapper(model, cfg.optim_wrapper), batches


def train(path: Path, kind: str, precision: str, steps: int) -> Row:
    """Trains a config for so many steps, or up to the first value that is not finite."""
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    with tempfile.TemporaryDirectory() as folder:
        model, wrapper, batches = build(load(path), kind, precision, Path(folder))
    gradients = ''

    def look(*_: object) -> None:
        nonlocal gradients
        gradients = not_finite((name, parameter.grad) for name, parameter in model.named_parameters())

    wrapper.optimizer.register_step_pre_hook(look)
    losses, memory, problem, begin = [], [], '', time.perf_counter()
    for step in range(steps):
        MessageHub.get_current_instance().update_info('iter', step)
        log = model.train_step(pseudo_collate(batches[step % len(batches)]), wrapper)
        losses.append(log['loss'].item())
        if name := not_finite((name, torch.as_tensor(value)) for name, value in log.items()):
            problem = name
        elif gradients:
            problem = f'gradient of {gradients}'
        else:
            problem = not_finite(model.state_dict().items())
        if problem:
            problem += f', step {step + 1}'
            break
        if (step + 1 >= FIRST and (step + 1 - FIRST) % max(steps // 100, 1) == 0) or step + 1 == steps:
            memory.append(held())
    return Row(losses[0], losses[-1], problem, time.perf_counter() - begin, memory)


def train_or_say(*arguments: object) -> Row:
    """As ``train``; what is raised is the problem."""
    try:
        return train(*arguments)
    except Exception as error:
        traceback.print_exc()
        return Row(float('nan'), float('nan'), repr(error), 0.0, [])


def main() -> None:
    """Trains each config in a process of its own, prints the rows, and judges them."""
    parser = ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--steps', type=int, default=50)
    parser.add_argument('--precision', choices=('float32', 'bfloat16', 'float16'), default='bfloat16')
    parser.add_argument('--only', default='*', metavar='PATTERN', help="such as 'aot/*', of the path in configs/")
    parser.add_argument('--size', type=int, default=test_configs.SIZE, help='pixels a side of the images')
    args = parser.parse_args()
    test_configs.SIZE = test_mixed_precision.SIZE = args.size  # what makes the samples reads it there
    chosen = sorted(
        (param.id, param.values[0], kind)
        for kind, params in KINDS.items()
        for param in params
        if fnmatch(param.id.removesuffix('.py'), args.only) or fnmatch(param.id, args.only)
    )
    if not chosen:
        parser.error(f'no config is named as {args.only}')
    for toolbox in ('mmseg', 'mmdet'):  # once, not in each process
        import_module(f'{toolbox}.utils').register_all_modules(init_default_scope=False)
    failed = []
    for name, path, kind in chosen:
        with get_context('fork').Pool(1) as pool:  # memory is that of this config alone
            row = pool.apply(train_or_say, (path, kind, args.precision, args.steps))
        print(f'{name:75} {row}', flush=True)
        if args.steps >= 1000:
            print(f'    MB held at each tenth: {curve(row.held)}', flush=True)
        if row.problem:
            failed.append(name)
        elif len(row.held) >= 20 and grows(row.held):
            failed.append(f'{name} (memory grows)')
    print(
        f'{len(chosen)} configs, {args.steps} steps in {args.precision}: {len(chosen) - len(failed)} without a problem'
    )
    if failed:
        sys.exit('problems: ' + ', '.join(failed))


if __name__ == '__main__':
    main()
