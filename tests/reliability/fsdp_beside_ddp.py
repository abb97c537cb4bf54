"""Does FSDP train as DistributedDataParallel does? Small models on two processes with gloo, on the CPU.

    python tests/reliability/fsdp_beside_ddp.py             # or other configs, relative to configs/

Each model takes a few steps under DistributedDataParallel, under PyTorch's FullyShardedDataParallel, which mmengine's
FSDPStrategy applies, as one unit and as many, and under PyTorch's ``fully_shard``; the losses and all weights are
compared, in float64. mmengine's strategy works on the CPU if the model wrapper has ``device_id='cpu'`` and full
checkpoints are not offloaded, see ``STRATEGY``.

Gradients are not clipped; a second comparison has the config's ``clip_grad``. There FullyShardedDataParallel is known
to differ: mmengine clips what a process holds by the norm of that part, not of all.
"""

import os
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from mmengine._strategy import FSDPStrategy
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import lambda_auto_wrap_policy

from tests.reliability.ranks import batch_of, build_model, run_ranks, set_iteration
from tests.test_configs import ROOT, load

STEPS = 4
MODELS = [
    'pspnet/pspnet_r18-d8_w32-ohem_1xb8-400_sample-96x128.py',
    'mask2former/mask2former_r18_w32-d128_1xb8-1k_sample-panoptic-96x128.py',
]
# Classes of modules that may be units of their own. Those must be called: a head may not be one, as the toolboxes call
# its ``loss`` and not it, nor an embedding, whose weights they read.
UNITS = ('BasicBlock', 'Bottleneck', 'InvertedResidual', 'TransformerEncoderLayer', 'TransformerDecoderLayer')
FULL = dict(
    state_dict_type='FULL_STATE_DICT',
    state_dict_config=dict(type='FullStateDictConfig', rank0_only=True),  # offloaded on the CPU, PyTorch 2.13 crashes
    optim_state_dict_config=dict(type='FullOptimStateDictConfig', rank0_only=True),
)
STRATEGY = dict(model_wrapper=dict(use_orig_params=True, device_id='cpu'), state_dict_cfg=FULL)
WAYS = ('FSDP, one unit', 'FSDP, many units', 'fully_shard, many units')
TOLERANCE = 1e-7  # of losses and weights


class Run(NamedTuple):
    """What came of a training.

    Attributes:
        losses: Total loss of each step.
        weights: All weights at the end by name; on the first rank.
        units: How many parts are sharded.
    """

    losses: list[float]
    weights: dict[str, Tensor]
    units: int


class Difference(NamedTuple):
    """How far two trainings are apart; numbers above 1 as a part of the number.

    Attributes:
        losses: Largest difference of a loss, in any step and process.
        weights: Largest difference of a weight or buffer at the end, in the first process.
        units: How many parts of the model are sharded.
    """

    losses: float
    weights: float
    units: int


def is_unit(module: nn.Module) -> bool:
    return type(module).__name__.endswith(UNITS)


def wrap(way: str, model: nn.Module, cfg: Config, folder: Path) -> tuple[nn.Module, OptimWrapper]:
    """Has a model trained in one of the ways."""
    if way.startswith('FSDP'):
        settings = dict(STRATEGY['model_wrapper'])
        if 'many' in way:
            settings['auto_wrap_policy'] = partial(lambda_auto_wrap_policy, lambda_fn=is_unit)
        os.environ['LOCAL_RANK'] = '0'  # a number of a device, which ``device_id`` replaces
        strategy = FSDPStrategy(**{**STRATEGY, 'model_wrapper': settings}, work_dir=str(folder))
        return strategy.prepare(model, optim_wrapper=cfg.optim_wrapper)[:2]
    if way == 'DDP':
        model = MMDistributedDataParallel(model, broadcast_buffers=False)
    else:
        mesh = init_device_mesh('cpu', (torch.distributed.get_world_size(),))
        for module in [*model.modules()][:0:-1]:  # inner ones first
            if is_unit(module):
                fully_shard(module, mesh=mesh)
        fully_shard(model, mesh=mesh)
    return model, build_optim_wrapper(model, cfg.optim_wrapper)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """All weights and buffers of a model, whole; every rank must ask."""
    if isinstance(model, MMDistributedDataParallel):
        return model.module.state_dict()
    if isinstance(model, FullyShardedDataParallel):
        return model.state_dict()
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))


def train(path: Path, way: str, clip: bool, folder: Path, rank: int, steps: int = STEPS) -> Run:
    """Trains the model of a config as one of the processes; each way draws the same random numbers.

    In float64: AdamW's first steps are of one size, and a rounding decides where a gradient of about 0 leads to.
    """
    cfg = load(path)
    if not clip:
        cfg.optim_wrapper.pop('clip_grad', None)
    batch = batch_of(cfg, folder / f'images{rank}', rank)
    model, wrapper = wrap(way, build_model(cfg, initialise=True).double(), cfg, folder / f'strategy{rank}')
    losses = []
    for step in range(steps):
        torch.manual_seed(10 * step + rank)
        set_iteration(step)
        losses.append(model.train_step(pseudo_collate(batch), wrapper)['loss'].item())
    kind = FullyShardedDataParallel if way.startswith('FSDP') else FSDPModule
    units = sum(isinstance(module, kind) for module in model.modules())
    weights = weights_of(model)
    return Run(losses, weights if rank == 0 else {}, units)


def compare(path: Path, ways: Sequence[str], clip: bool, folder: Path, steps: int = STEPS) -> dict[str, Difference]:
    """Compares each way with DistributedDataParallel.

    Args:
        path: The config.
        ways: Of ``WAYS``.
        clip: Whether gradients are clipped as the config says.
        folder: Where files may be written.
        steps: Number of steps.
    """
    runs = {
        way: run_ranks(partial(train, path, way, clip, folder / f'files {way}', steps=steps), folder / f'ranks {way}')
        for way in ('DDP', *ways)
    }
    expected, found = runs['DDP'], {}
    for way in ways:
        weights = runs[way][0].weights
        if weights.keys() != expected[0].weights.keys():
            raise ValueError(f'{way}: other names of weights: {weights.keys() ^ expected[0].weights.keys()}')
        losses = zip(*([loss for run in runs[name] for loss in run.losses] for name in (way, 'DDP')), strict=True)
        found[way] = Difference(
            max(abs(one - other) / max(abs(other), 1) for one, other in losses),
            max(_difference(weights[name], value) for name, value in expected[0].weights.items()),
            runs[way][0].units,
        )
    return found


def _difference(found: Tensor, expected: Tensor) -> float:
    found, expected = found.double(), expected.double()
    return ((found - expected).abs() / expected.abs().clamp(min=1)).max().item()


def main() -> None:
    """Compares, and says how far apart they are."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='*', default=MODELS, help='configs, relative to configs/')
    args = parser.parse_args()
    torch.set_num_threads(1)
    failed = []
    for name in args.names:
        path = ROOT / 'configs' / name
        clips = [False, True] if load(path).optim_wrapper.get('clip_grad') else [False]
        for clip in clips:
            with tempfile.TemporaryDirectory() as folder:
                for way, difference in compare(path, WAYS, clip, Path(folder)).items():
                    print(
                        f'{name}, {way} in {difference.units} units{", clip_grad" if clip else ""}: beside DDP, '
                        f'{STEPS} steps, losses differ by {difference.losses:.2g}, weights by {difference.weights:.2g}',
                        flush=True,
                    )
                    known = clip and way.startswith('FSDP')
                    if max(difference.losses, difference.weights) > TOLERANCE and not known:
                        failed.append((name, way, clip))
    if failed:
        sys.exit(f'more than {TOLERANCE} apart: {failed}')


if __name__ == '__main__':
    main()
