"""Trains the model of every shipped config on two processes under DistributedDataParallel: does one raise, or wait?

    python tests/reliability/ddp_every_config.py            # or names: ... aot pspnet/pspnet_r18

Images are small. In the first step the second process has no objects, or no valid pixels, but where the config has a
loss of mmsegmentation that cannot do without. Parameters without a gradient are looked for as the config says
(``find_unused_parameters``). AOT also takes the first steps with its own masks and without the reference's loss, if the
config has such; if it looks for such parameters, the identity bank must be without a gradient there, and the training
must fail where they are not looked for. At the end both processes must have the same weights.
"""

import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper

from tests.reliability.ranks import RankError, batch_of, build_model, kind_of, run_ranks, set_iteration
from tests.test_configs import CONFIGS, load

PATHS = {param.id: param.values[0] for param in CONFIGS}
SECONDS = 300  # that one process waits for the other, on a machine that does other things


def iterations(cfg: Config) -> list[int]:
    """Which iterations are tried: the first two, and of AOT the first two of each later part of the training."""
    settings = cfg.model.train_cfg if kind_of(cfg) == 'video' else {}
    starts = {0, settings.get('own_masks_from') or 0, settings.get('aux_loss_steps', 0)}
    return [start + step for start in sorted(starts) if start < cfg.train_cfg.get('max_iters', 1) for step in (0, 1)]


def needs_valid(node: object) -> bool:
    """Whether a model's config has mmsegmentation's sigmoid cross entropy, which raises where no pixel is valid."""
    if isinstance(node, list | tuple):
        return any(map(needs_valid, node))
    if not isinstance(node, dict):
        return False
    if node.get('type') in ('CrossEntropyLoss', 'mmseg.CrossEntropyLoss') and node.get('use_sigmoid'):
        return True
    return any(map(needs_valid, node.values()))


def train(path: Path, folder: Path, rank: int, find_unused: bool | None = None) -> dict:
    """Trains the model of a config as one of the processes.

    Args:
        path: The config.
        folder: Where files may be written.
        rank: The rank.
        find_unused: Whether parameters without a gradient are looked for; None: as the config says.

    Returns:
        ``weights``, all of them; ``without``, the names of those that should have had a gradient and had none, of each
        iteration.
    """
    cfg = load(path)
    soft = 'mmplugins.SoftMask' in str(cfg.train_dataloader)  # which have no ignored pixels
    empty = rank == 1 and not (kind_of(cfg) == 'segmentor' and (soft or needs_valid(cfg.model)))
    batches = [batch_of(cfg, folder / f'{rank}{empty}', rank, empty) for empty in (empty, False)]
    model = build_model(cfg)
    find_unused = cfg.get('find_unused_parameters', False) if find_unused is None else find_unused
    parallel = MMDistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=find_unused)
    wrapper = build_optim_wrapper(parallel, cfg.optim_wrapper)
    without = {}
    for index, iteration in enumerate(iterations(cfg)):
        torch.manual_seed(10 * index + rank)
        set_iteration(iteration)
        data = model.data_preprocessor(pseudo_collate(batches[min(index, 1)]), training=True)
        total, _ = model.parse_losses(parallel(**data, mode='loss'))
        if not torch.isfinite(total):
            raise ValueError(f'the loss of iteration {iteration} is {total}')
        total.backward()
        without[iteration] = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        wrapper.step()
        wrapper.zero_grad()
    return dict(weights=torch.cat([p.detach().flatten() for p in model.parameters()]), without=without)


def problem_of(path: Path, folder: Path) -> str | None:
    """Says what goes wrong with a config; None: nothing."""
    cfg = load(path)
    try:
        first, second = run_ranks(lambda rank: train(path, folder, rank), folder / 'ranks', seconds=SECONDS)
    except RankError as error:
        return str(error)
    if not torch.equal(first['weights'], second['weights']):
        return f'the weights of the processes differ by {(first["weights"] - second["weights"]).abs().max():.2g}'
    untrained = {name for rank in (first, second) for names in rank['without'].values() for name in names}
    if not cfg.get('find_unused_parameters', False):
        return f'without a gradient: {sorted(untrained)}' if untrained else None
    if {name.split('.')[1] for name in untrained} != {'identity_bank'}:
        return f'expected the identity bank alone to be without a gradient, got {sorted(untrained)}'
    if first['without'][0] or second['without'][0]:
        return f'without a gradient from the start: {first["without"][0], second["without"][0]}'
    return None


def needs_find_unused(path: Path, folder: Path) -> bool:
    """Whether a training fails in which parameters without a gradient are not looked for."""
    try:
        run_ranks(lambda rank: train(path, folder, rank, find_unused=False), folder / 'ranks', seconds=SECONDS)
    except RankError as error:
        return 'find_unused_parameters=True' in str(error)
    return False


def main() -> None:
    """Tries the configs, and says what came of it."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='*', help='beginnings of names of configs; none: all')
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in PATHS if not args.names or name.startswith(tuple(args.names))]
    failed, found_unused, needed = [], [], []
    for name in names:
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            problem = problem_of(PATHS[name], Path(folder, 'as configured'))
            if load(PATHS[name]).get('find_unused_parameters', False):
                found_unused.append(name)
                needed += [name] if needs_find_unused(PATHS[name], Path(folder, 'without')) else []
        failed += [name] if problem else []
        print(f'{name}: {problem or "ok"} ({time.perf_counter() - begin:.0f} s)', flush=True)
    print(
        f'{len(names)} configs, {len(failed)} fail: {failed}; find_unused_parameters=True: {len(found_unused)}, '
        f'which fail without it: {len(needed)}'
    )
    if failed or needed != found_unused:
        sys.exit('a config does not train on two processes as it says')


if __name__ == '__main__':
    main()
