"""Is a training step of every shipped config the same on both paths, and of any copy of the model?

    python tests/reliability/paths_and_copies.py            # or beginnings of names: ... aot pspnet/pspnet_r18

Of two small images or clips each:

- On the plain path, which is what a GPU runs, losses and gradients equal those of the CPU's own kernels, in float64.
- Under autocast with bfloat16, losses are the same to 0.01.
- ``copy.deepcopy`` and ``pickle`` of the model, taken while the graph of a step is there, give its losses and gradients
  bit for bit; mmengine's average of weights and ours, before their first update, its losses to rounding (without a
  graph, masks are summed in another order).
"""

import copy
import pickle
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from mmplugins.functional.device import full_dtype, plain_path
from mmplugins.functional.masks import sampled_logits
from mmplugins.models.averaging import WarmupEMA
from mmplugins.models.losses import point_sampled_mask_loss
from tests.reliability.ranks import batch_of, build_model, set_iteration
from tests.test_configs import CONFIGS, load

PATHS = {param.id: param.values[0] for param in CONFIGS}
ROUNDING = 1e-8  # of float64 through a network, relative to the largest value of a tensor
FLOAT32 = 1e-4  # of losses; the last bit of a logit may choose another point of a mask
BFLOAT16 = 1e-2  # of losses; encoders have another memory layout on the plain path, and sum in another order
Losses = dict[str, Tensor]


@contextmanager
def same_points() -> Iterator[None]:
    """Gives all masks the same random points: the paths draw for blocks of masks of different sizes."""

    def draw(shape, maps, generator=None):
        points = torch.rand(2, shape[-1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        rows = points.to(full_dtype(maps)).view(2, *[1] * (len(shape) - 1), shape[-1])
        return rows.expand(2, *shape).contiguous().movedim(0, -1)

    modules = sampled_logits, point_sampled_mask_loss
    with mock.patch.object(modules[0], 'draw_points', draw), mock.patch.object(modules[1], 'draw_points', draw):
        yield


def losses_of(model: nn.Module, samples: list[dict], dtype: torch.dtype = torch.float32) -> Losses:
    """What a training step logs, with its graph; dropout and points draw the same numbers at each call."""
    torch.manual_seed(1)
    set_iteration(0)
    inner = getattr(model, 'module', model)  # of an average
    data = inner.data_preprocessor(pseudo_collate(copy.deepcopy(samples)), training=True)
    total, log = inner.parse_losses(model(**{**data, 'inputs': data['inputs'].to(dtype)}, mode='loss'))
    return {**log, 'loss': total}


def gradients_of(model: nn.Module, losses: Losses) -> Losses:
    """Gradients of all parameters that have one."""
    model.zero_grad()
    losses['loss'].backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def difference(actual: Losses, expected: Losses, bound: float) -> str:
    """Says which of some tensors differ by more than a bound, relative to the largest value; empty: none."""
    if actual.keys() != expected.keys():
        return f'names differ: {sorted(actual.keys() ^ expected.keys())}'
    least = 1e-6 * max(float(value.detach().abs().max()) for value in expected.values())  # those that are nearly 0
    for name, value in expected.items():
        value, other = value.detach().double(), actual[name].detach().double()
        apart = float((other - value).abs().max())
        if not apart <= bound * max(float(value.abs().max()), least):  # NaN is a difference
            return f'{name} differs by {apart:.2g}, its largest value is {float(value.abs().max()):.2g}'
    return ''


def problem_of_paths(model: nn.Module, samples: list[dict]) -> str:
    """Says where the plain path differs from the CPU's kernels; empty: nowhere. The model becomes float64."""
    with same_points():
        with torch.autocast('cpu', torch.bfloat16):
            expected = losses_of(model, samples)
            with plain_path():
                actual = losses_of(model, samples)
        expected = {name: value for name, value in expected.items() if 'loss' in name}  # no accuracy of equal logits
        if found := difference({name: actual[name] for name in expected}, expected, BFLOAT16):
            return f'plain path under autocast: {found}'

        model.double()
        expected = losses_of(model, samples, torch.float64)
        gradients = gradients_of(model, expected)
        with plain_path():
            actual = losses_of(model, samples, torch.float64)
            found = difference(actual, expected, ROUNDING)
            found = found or difference(gradients_of(model, actual), gradients, ROUNDING)
    return f'plain path: {found}' if found else ''


def problem_of_copies(model: nn.Module, samples: list[dict]) -> str:
    """Says which copy of a model differs from it; empty: none."""
    expected = losses_of(model, samples)
    copies = {'deepcopy': copy.deepcopy(model), 'pickle': pickle.loads(pickle.dumps(model))}
    averages = {kind.__name__: kind(model) for kind in (ExponentialMovingAverage, WarmupEMA)}
    gradients = gradients_of(model, expected)
    for name, copied in copies.items():
        losses = losses_of(copied, samples)
        found = difference(losses, expected, 0) or difference(gradients_of(copied, losses), gradients, 0)
        if found:
            return f'{name}: {found}'
    for name, average in averages.items():
        average.train()
        with torch.no_grad():
            if found := difference(losses_of(average, samples), expected, FLOAT32):
                return f'{name}: {found}'
    return ''


def problem_of(path: Path, folder: Path) -> str:
    """Says what differs for a config; empty: nothing."""
    cfg = load(path)
    samples = batch_of(cfg, folder, rank=0)
    model = build_model(cfg)
    return problem_of_copies(model, samples) or problem_of_paths(model, samples)


def main() -> None:
    """Tries the configs, and says what came of it."""
    parser = ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('names', nargs='*', help='beginnings of names of configs; none: all')
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in PATHS if not args.names or name.startswith(tuple(args.names))]
    failed = []
    for name in names:
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            problem = problem_of(PATHS[name], Path(folder))
        failed += [name] if problem else []
        print(f'{name}: {problem or "ok"} ({time.perf_counter() - begin:.0f} s)', flush=True)
    print(f'{len(names)} configs, {len(failed)} differ')
    if failed:
        sys.exit('they differ: ' + ', '.join(failed))


if __name__ == '__main__':
    main()
