"""Fills the disk of a small training at random moments, makes room and resumes it: is anything lost, or different?

    unshare -rm sh -c 'mount -t tmpfs -o size=16m none /mnt && python tests/reliability/full_disk.py /mnt --times 30'

The folder is on a small disk of its own. A third of the trainings find it full, or nearly so, when they start; in the
others an iteration fills it but for a few blocks, half a checkpoint or a whole one, so that the log, the checkpoint or
``last_checkpoint`` cannot be written, or just can. One checkpoint is kept (``max_keep_ckpts=1``). A training that stops
must end with a line that says what to do (before it, Python's logging has a traceback for each line of the log that it
cannot write). With ``--resume auto`` all must come to the weights of a training that had room.
"""

import os
import random
import shutil
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmplugins.engine import whole_files
from tests.reliability.kill_at_random import INTERVAL, ITERATIONS, progress, start, write_run
from tests.tools.tiny_run import make_data

BLOCK = 4096  # bytes of tmpfs
LAST = f'iter_{ITERATIONS}.pth'
LINE = 'cannot be written (No space left on device)'


class Report(NamedTuple):
    """What came of the full disks.

    Attributes:
        stopped: What each training said in its last line, or that it ended.
        lost: Iterations that each has lost.
        unclear: Output of those that did not end with a clear line.
        equal: Whether the weights at the end are those of a training that had room.
    """

    stopped: list[str]
    lost: list[int]
    unclear: list[str]
    equal: bool


@HOOKS.register_module()
class FillDiskHook(Hook):
    """Fills the disk after an iteration, before its losses are logged and its checkpoint is written."""

    priority = 'VERY_HIGH'

    def __init__(self, disk: str, iteration: int, room: int) -> None:
        self.disk, self.iteration, self.room = Path(disk), iteration, room

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.iteration:
            fill(self.disk, self.room)


def fill(disk: Path, room: int) -> None:
    """Writes a file that leaves so many bytes, rounded to the disk's blocks."""
    with (disk / 'ballast').open('wb') as file:
        os.posix_fallocate(file.fileno(), 0, max(shutil.disk_usage(disk).free - room, 1))


def fill_and_resume(disk: Path, folder: Path, times: int, seed: int = 0) -> Report:
    """Trains so many times on a disk that gets full, each time with room again at the end.

    Args:
        disk: An empty folder on a small disk.
        folder: One elsewhere, for data, configs and output.
        times: How often.
        seed: Of the moments.
    """
    draw = random.Random(seed)
    data, log = make_data(folder / 'data'), folder / 'log'
    config = write_run(folder / 'config.py', data)
    failed, output = train(config, folder / 'whole', log)
    if failed:
        raise RuntimeError(f'a training that has room fails: {output[-3000:]}')
    expected = weights(folder / 'whole')
    checkpoint = -(-(folder / 'whole' / LAST).stat().st_size // BLOCK)
    stopped, lost, unclear, equal = [], [], [], True
    for index in range(times):
        work_dir = disk / f'run{index}'
        if index % 3 == 0:
            fill(disk, BLOCK * draw.choice([0, 1, 2, 4, 8, 16]))
            full = config
        else:
            room = BLOCK * draw.choice([0, 1, 2, 3, checkpoint // 2, checkpoint])
            fault = dict(type='FillDiskHook', disk=str(disk), iteration=draw.randint(1, ITERATIONS - 1), room=room)
            full = write_run(folder / 'full.py', data, hooks=[fault])
        failed, output = train(full, work_dir, log)
        last = output.strip().splitlines()[-1] if failed else 'it ends, as the room is enough'
        if failed and (LINE not in last or 'ake room' not in last):
            unclear.append(output)
        done = progress(work_dir)
        latest = whole_files.latest_whole(work_dir)
        saved = torch.load(latest, weights_only=True)['meta']['iter'] if latest else 0
        stopped.append(last)
        lost.append(done - saved)
        print(f'stopped after iteration {done}, goes on from {saved}: {last}', flush=True)
        (disk / 'ballast').unlink()
        failed, output = train(config, work_dir, log)
        if failed:
            raise RuntimeError(f'a resumed training fails: {output[-3000:]}')
        found = weights(work_dir)
        equal = equal and all(torch.equal(found[name], value) for name, value in expected.items())
        shutil.rmtree(work_dir)
    return Report(stopped, lost, unclear, equal)


def train(config: Path, work_dir: Path, log: Path) -> tuple[bool, str]:
    """Trains, or goes on; returns whether that failed, and what it wrote."""
    log.unlink(missing_ok=True)
    _, status = os.waitpid(start(config, work_dir, log), 0)
    return status != 0, log.read_text()


def weights(work_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(work_dir / LAST, weights_only=True)['state_dict']


def main() -> None:
    """Fills the disk so often, and says what came of it."""
    parser = ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('disk', type=Path, help='an empty folder on a small disk of its own')
    parser.add_argument('--times', type=int, default=30)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    if shutil.disk_usage(args.disk).free > 2**28:
        parser.error(f'the disk of {args.disk} is not small, and would be filled')
    with tempfile.TemporaryDirectory() as folder:
        report = fill_and_resume(args.disk, Path(folder), args.times, args.seed)
    for output in report.unclear:
        print(output)
    ended, most = sum(LINE not in line for line in report.stopped), max(report.lost, default=0)
    print(
        f'{len(report.stopped)} full disks, {ended} had room enough, {len(report.unclear)} without a clear line; most '
        f'iterations lost: {most}, saved every {INTERVAL}; weights at the end equal those of a training '
        f'that had room: {report.equal}'
    )
    if report.unclear or most > INTERVAL or not report.equal:
        sys.exit('something was lost, or not said')


if __name__ == '__main__':
    main()
