"""Measures where the time of a config's training steps goes, and what our components change of it.

    python benchmarks/benchmark_step.py CONFIG
    python benchmarks/benchmark_step.py configs/detr/detr_r18_w32-d128_1xb8-150e_bccd-192x256.py \
        --replace mmplugins.BatchHungarianAssigner=mmdet.HungarianAssigner 'mmplugins.*=mmdet.*'

Real batches go through the config's model, losses and optimizer, in this process. With --replace, a second model, from
the same weights and on the same batches, has other types; the two take turns. A step is cut at the heads' losses:

    data           reading and augmenting a batch, without worker processes
    forward        preprocessor, backbone, neck and heads
    criterion      the heads' loss_by_feat: matching, targets, losses
    its backward   from the losses to the heads' outputs
    backward       from the heads' outputs to the weights
    optimizer      clipping and update

A gradient that crosses the cut is dense; without it, that of ``mmplugins.Mask2FormerHead``'s masks is sparse, which
saves time in both backward phases that the table does not show.

The table has the median of each in milliseconds, and the criterion's share, both ways, of all but the data. Weights
are random: what is measured does not depend on them by much. Measure on a quiet machine.
"""

import copy
import statistics
import sys
import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MessageHub
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import Tensor, nn

from mmplugins.engine.launch import CfgOptions, UsageError, check_data, load_config, type_name

PHASES = ('data', 'forward', 'criterion', 'its backward', 'backward', 'optimizer')
WARM_UP = 2  # steps that are not counted


class Clock:
    """Adds up the time of phases.

    Attributes:
        seconds: Of each phase, one number a step.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._phases: dict[str, float] = defaultdict(float)
        self._mark = 0.0

    def start(self) -> None:
        """Begins a step."""
        self._phases.clear()
        self._mark = self._now()

    def stop(self, phase: str) -> None:
        """Counts the time since the last call as a phase's."""
        now = self._now()
        self._phases[phase] += now - self._mark
        self._mark = now

    def keep(self) -> None:
        """Keeps the times of the step."""
        for phase, seconds in self._phases.items():
            self.seconds[phase].append(seconds)

    def _now(self) -> float:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Contender:
    """A model with its optimizer, whose heads' losses are cut off from what comes before them.

    Args:
        model: On its device.
        cfg: Has ``optim_wrapper``.
        clock: Takes the times.
    """

    def __init__(self, model: nn.Module, cfg: Config, clock: Clock) -> None:
        self.model = model.train()
        self.optimizer = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
        self.clock = clock
        self.cuts: list[tuple[Tensor, Tensor]] = []  # output of a head, and the leaf that its losses start from
        heads = [module for module in model.modules() if hasattr(module, 'loss_by_feat')]
        if not heads:
            raise UsageError(f'{type(model).__name__} has no head with loss_by_feat, where a step could be cut')
        for head in heads:
            head.loss_by_feat = self._cut(head.loss_by_feat)

    def step(self, batch: Mapping[str, Any]) -> float:
        """Runs one training step.

        Args:
            batch: What the data loader gives; not changed.

        Returns:
            The loss.
        """
        batch = copy.deepcopy(batch)  # preprocessors change it
        self.cuts.clear()
        self.clock.start()
        data = self.model.data_preprocessor(batch, training=True)
        losses = self.model(**data, mode='loss')
        self.clock.stop('forward')
        loss, _ = self.model.parse_losses(losses)
        self.clock.stop('criterion')
        loss.backward()
        self.clock.stop('its backward')
        reached = [(output, leaf.grad) for output, leaf in self.cuts if leaf.grad is not None]
        torch.autograd.backward(*map(list, zip(*reached, strict=True)))
        self.clock.stop('backward')
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.clock.stop('optimizer')
        return loss.item()

    def _cut(self, loss_by_feat: Callable) -> Callable:
        def timed(*args: object, **kwargs: object) -> object:
            args, kwargs = self._detach(args), self._detach(kwargs)
            self.clock.stop('forward')
            losses = loss_by_feat(*args, **kwargs)
            self.clock.stop('criterion')
            return losses

        return timed

    def _detach(self, value: Any) -> Any:
        """Puts a leaf in place of each tensor that has a gradient, in lists, tuples and dicts."""
        if isinstance(value, Tensor) and value.requires_grad:
            leaf = value.detach().requires_grad_()
            self.cuts.append((value, leaf))
            return leaf
        if type(value) in (list, tuple):
            return type(value)(self._detach(item) for item in value)
        if type(value) is dict:
            return {key: self._detach(item) for key, item in value.items()}
        return value


def replace_types(node: Any, rules: Sequence[tuple[str, str]]) -> int:
    """Replaces types of a config, in place.

    Args:
        node: A config, or a part of one.
        rules: Pairs of old and new type; ``scope.*`` stands for all types of a scope, and the first match counts.

    Returns:
        How many types were replaced.
    """
    if isinstance(node, list | tuple):
        return sum(replace_types(child, rules) for child in node)
    if not isinstance(node, dict):
        return 0
    count = sum(replace_types(child, rules) for child in node.values())
    kind = node.get('type')
    for old, new in rules if isinstance(kind, str) else ():
        scope, name = kind.rpartition('.')[::2]
        if kind == old or old == f'{scope}.*':
            node['type'] = new.replace('*', name)
            return count + 1
    return count


def measure(cfg: Config, rules: Sequence[tuple[str, str]], steps: int) -> tuple[dict, dict]:
    """Runs the training steps.

    Args:
        cfg: The config.
        rules: What ``replace_types`` takes; none: the config's own model alone.
        steps: How many steps to count.

    Returns:
        Seconds of each phase, a number a step, by contender; and the losses of the contenders' first steps.

    Raises:
        UsageError: The config cannot be measured, or has none of the types to replace.
    """
    if type_name(cfg.optim_wrapper) not in ('', 'OptimWrapper'):
        raise UsageError(f'optim_wrapper.type should be OptimWrapper, got {cfg.optim_wrapper.type}')
    device = torch.device(get_device())
    torch.manual_seed(0)
    models = {'config': copy.deepcopy(cfg.model)}
    if rules:
        models['replaced'] = copy.deepcopy(cfg.model)
        if not replace_types(models['replaced'], rules):
            raise UsageError('the model has none of the types to replace: ' + ', '.join(old for old, _ in rules))
    built = {name: revert_sync_batchnorm(MODELS.build(model)).to(device) for name, model in models.items()}
    weights = copy.deepcopy(built['config'].state_dict())
    for model in built.values():
        model.load_state_dict(weights)
    clocks = {name: Clock(device) for name in built}
    contenders = {name: Contender(model, cfg, clocks[name]) for name, model in built.items()}

    loader = cfg.train_dataloader
    loader = Runner.build_dataloader({**loader, 'num_workers': 0, 'persistent_workers': False}, seed=0)
    hub, batches, first, order = MessageHub.get_current_instance(), iter(loader), {}, list(contenders)
    for step in range(WARM_UP + steps):
        hub.update_info('iter', step)  # some losses depend on it
        began = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            batches = iter(loader)
            batch = next(batches)
        loading = time.perf_counter() - began
        for name in order:
            loss = contenders[name].step(batch)
            first.setdefault(name, loss)
            if step >= WARM_UP:
                clocks[name].seconds['data'].append(loading)
                clocks[name].keep()
        order.append(order.pop(0))
    return {name: clock.seconds for name, clock in clocks.items()}, first


def report(seconds: Mapping[str, Mapping[str, Sequence[float]]], first: Mapping[str, float]) -> str:
    """Writes the table.

    Args:
        seconds: Of each phase, a number a step, by contender.
        first: Loss of the first step by contender.
    """
    rows = [f'{"":10}' + ''.join(f'{phase:>14}' for phase in (*PHASES, 'all')) + f'{"criterion":>14}']
    for name, phases in seconds.items():
        median = {phase: 1000 * statistics.median(phases[phase]) for phase in PHASES}
        work = sum(median.values()) - median['data']
        share = (median['criterion'] + median['its backward']) / work
        values = [*median.values(), sum(median.values())]
        rows.append(f'{name:10}' + ''.join(f'{value:14.2f}' for value in values) + f'{share:14.1%}')
    rows.append('loss of the first step: ' + ', '.join(f'{name} {loss:.6f}' for name, loss in first.items()))
    return '\n'.join(rows)


def replacement(text: str) -> tuple[str, str]:
    """Reads ``OLD=NEW``."""
    old, equals, new = text.partition('=')
    if not (old and equals and new):
        raise ValueError(text)
    return old, new


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(description='Measure the phases of training steps.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--steps', type=int, default=20, help='steps to count (default: 20)')
    parser.add_argument(
        '--replace', nargs='+', type=replacement, default=[], metavar='OLD=NEW', help='types of the second model'
    )
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help='override settings')
    parser.set_defaults(work_dir=None, launcher='none')
    args = parser.parse_args(argv)
    try:
        cfg = load_config(args, __file__)
        check_data(cfg, 'train_dataloader')
        seconds, first = measure(cfg, args.replace, args.steps)
    except UsageError as error:
        sys.exit(f'benchmark_step.py: error: {error}')
    print(f'{args.steps} steps of {args.config} on {get_device()}, {torch.get_num_threads()} threads; milliseconds')
    print(report(seconds, first))


if __name__ == '__main__':
    main()
