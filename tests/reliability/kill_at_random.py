"""Kills a small training at random moments and resumes it, until it is through: is anything lost, or different?

    python tests/reliability/kill_at_random.py --kills 30

A third of the kills come at a random time, a third when a checkpoint is written but has not its name yet, a third when
it has its name but ``last_checkpoint`` does not know of it. One checkpoint is kept (``max_keep_ckpts=1``).
"""

import os
import random
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmplugins.engine import whole_files
from tests.tools.tiny_run import make_data, write_config
from tools import train

ITERATIONS, INTERVAL = 24, 2
MOMENTS = ('any time', 'before its name', 'after its name')


class Report(NamedTuple):
    """What came of the kills.

    Attributes:
        kills: Number of kills by moment.
        lost: Iterations that each kill lost.
        equal: Whether the weights at the end are those of a run that was not killed.
    """

    kills: dict[str, int]
    lost: list[int]
    equal: bool


@HOOKS.register_module()
class ProgressHook(Hook):
    """Writes the number of each finished iteration to a file of the work dir."""

    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        with Path(runner.work_dir, 'progress').open('a') as file:
            file.write(f'{runner.iter + 1}\n')


def kill_in_write(moment: str, number: int) -> None:
    """Has this process killed when it writes its so-and-so-manieth checkpoint."""
    count = 0

    def then_kill(original):
        def wrapped(*args, **kwargs):
            nonlocal count
            count += 1
            if moment == 'before its name' and count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            found = original(*args, **kwargs)
            if moment == 'after its name' and count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return wrapped

    if moment == 'before its name':
        os.fsync = then_kill(os.fsync)
    else:
        Path.replace = then_kill(Path.replace)


def write_run(path: Path, data: Path, hooks: Sequence[dict] = ()) -> Path:
    """Writes the config of a training that draws random numbers, keeps one checkpoint, and notes its progress."""
    hooks = [dict(type='mmplugins.IterSeedHook'), dict(type='ProgressHook'), *hooks]
    config = write_config(path, data, iterations=ITERATIONS, hooks=hooks, flip=0.5, dropout=0.3)
    text = config.read_text().replace('val_interval=2', 'val_interval=100')
    text = text.replace('interval=2)', f'interval={INTERVAL}, max_keep_ckpts=1)')
    config.write_text(text + '\nrandomness = dict(seed=3, deterministic=True)\n')
    return config


def start(config: Path, work_dir: Path, log: Path, moment: str | None = None, number: int = 0) -> int:
    """Trains in a child process, which writes to a log; returns its id."""
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)
        sys.stdout = sys.stderr = log.open('a', buffering=1)
        os.dup2(sys.stdout.fileno(), 1)
        os.dup2(sys.stdout.fileno(), 2)
        if moment in MOMENTS[1:]:
            kill_in_write(moment, number)
        train.main([str(config), '--work-dir', str(work_dir), '--resume', 'auto'])
        os._exit(0)
    except BaseException as error:  # the child must not go on as its parent
        print(repr(error))
        os._exit(1)


def progress(work_dir: Path) -> int:
    file = work_dir / 'progress'
    return int(file.read_text().split()[-1]) if file.is_file() and file.read_text() else 0


def kill_and_resume(folder: Path, kills: int, seed: int = 0) -> Report:
    """Kills trainings so many times in all; each that ends before is followed by another one."""
    draw = random.Random(seed)
    config, log = write_run(folder / 'config.py', make_data(folder / 'data')), folder / 'log'
    begin = time.perf_counter()
    _, status = os.waitpid(start(config, folder / 'whole', log), 0)
    seconds = time.perf_counter() - begin
    if status:
        raise RuntimeError(f'the run that is not killed fails: {log.read_text()[-3000:]}')
    expected = torch.load(folder / 'whole' / f'iter_{ITERATIONS}.pth', weights_only=True)['state_dict']
    counts, lost, equal, run = dict.fromkeys(MOMENTS, 0), [], True, 0
    while sum(counts.values()) < kills or (run and (folder / f'run{run}').is_dir()):
        work_dir = folder / f'run{run}'
        moment = MOMENTS[sum(counts.values()) % 3] if sum(counts.values()) < kills else None
        work_dir.mkdir(exist_ok=True)
        child = start(config, work_dir, log, moment, draw.randint(1, 4))
        if moment == 'any time':
            time.sleep(draw.uniform(0.2, seconds))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        done = progress(work_dir)
        latest = whole_files.latest_whole(work_dir)
        saved = torch.load(latest, weights_only=True)['meta']['iter'] if latest else 0
        if os.WIFSIGNALED(status):
            counts[moment] += 1
            lost.append(done - saved)
            print(f'{moment}: killed in iteration {done + 1}, goes on from {saved}', flush=True)
            continue
        if status:
            raise RuntimeError(f'a resumed run fails: {log.read_text()[-3000:]}')
        found = torch.load(latest, weights_only=True)
        if found['meta']['iter'] != ITERATIONS:
            raise RuntimeError(f'a run ended at iteration {found["meta"]["iter"]}')
        equal = equal and all(torch.equal(found['state_dict'][name], value) for name, value in expected.items())
        run += 1
        if moment is None:
            break
    return Report(counts, lost, equal)


def main() -> None:
    """Kills so often, and says what came of it."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=30)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = kill_and_resume(Path(folder), args.kills, args.seed)
    print(
        f'{sum(report.kills.values())} kills {report.kills}; most iterations lost: {max(report.lost)}, saved every '
        f'{INTERVAL}; weights at the end equal those of a run without a kill: {report.equal}'
    )
    if max(report.lost) > INTERVAL or not report.equal:
        sys.exit('something was lost')


if __name__ == '__main__':
    main()
