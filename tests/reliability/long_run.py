"""Does memory grow? Trains a small network for long, or tracks through a long video, and says what the process holds.

    python tests/reliability/long_run.py train --steps 3000
    python tests/reliability/long_run.py video --steps 10000

Ends with an error if the second half of the run holds more than 5 % and 20 MB more than the first half did at most.
"""

import gc
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mmplugins.demo import tracking
from tests.reliability.memory import curve, grows, held
from tests.tools.tiny_run import make_data, write_config
from tests.tools.tiny_video import SIZE, make_videos, truth, write_video_config
from tools import train

HELD: list[float] = []


@HOOKS.register_module()
class MemoryHook(Hook):
    """Notes what is held a hundred times in a run."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if (runner.iter + 1) % max(runner.max_iters // 100, 1) == 0:
            HELD.append(held())


def long_training(folder: Path, steps: int, pauses: int) -> None:
    """Trains; validates and writes a checkpoint so many times."""
    config = write_config(
        folder / 'config.py',
        make_data(folder / 'data'),
        iterations=steps,
        hooks=[dict(type='MemoryHook')],
        loss=[dict(type='mmplugins.OhemCrossEntropyLoss', min_kept=100), dict(type='mmplugins.SoftJaccardLoss')],
    )
    text = (
        config.read_text().replace('interval=2', f'interval={max(steps // pauses, 1)}').replace('end=6', f'end={steps}')
    )
    config.write_text(text.replace('interval=1,', 'interval=50,'))
    train.main([str(config), '--work-dir', str(folder / 'run')])


def long_video(folder: Path, steps: int, pauses: int) -> None:
    """Tracks two objects of a small video that goes to and fro."""
    config, checkpoint = write_video_config(folder, make_videos(folder / 'data'))
    cfg = Config.fromfile(config)
    model = tracking.load_model(cfg, str(checkpoint), 'cpu')
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(7)]
    resize = tracking.resizer(cfg, model.network.align_corners)
    source = (frames[index % 7] for index in range(steps))
    for index, _ in enumerate(tracking.track_video(model, source, truth('cat', 0), resize)):
        if index % max(steps // 100, 1) == 0:
            HELD.append(held())


def main() -> None:
    """Runs, prints the curve, and judges it."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('what', choices=('train', 'video'))
    parser.add_argument('--steps', type=int, default=3000)
    parser.add_argument('--pauses', type=int, default=10, help='validations and checkpoints of a training')
    args = parser.parse_args()
    torch.set_num_threads(1)
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        (long_training if args.what == 'train' else long_video)(Path(folder), args.steps, args.pauses)
    print(f'{args.what}, {args.steps} steps; MB held at every tenth of the run: {curve(HELD)}')
    middle = len(HELD) // 2
    print(f'at most {max(HELD[:middle]):.1f} MB in the first half, {max(HELD[middle:]):.1f} MB in the second')
    if grows(HELD):
        sys.exit('memory grows')


if __name__ == '__main__':
    main()
