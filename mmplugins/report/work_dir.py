"""What a work dir tells of a run: scalars, pictures, the log's environment and times, the record of its start.

Scalars are those of mmengine's LocalVisBackend, ``<time>/vis_data/scalars.json``. Where a run was resumed, the later
value of a step counts.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

Curve = list[tuple[float, float]]  # (iteration, value), ascending
PICTURE = re.compile(r'^(.+)_(\d+)\.(?:png|jpe?g)$')
TIME = re.compile(r'^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - ')


@dataclass
class Run:
    """A run.

    Attributes:
        name: Of the experiment.
        training: Curves of what is logged in training, by name.
        validation: Curves of what is logged in validations and beside, by name; their steps are iterations too.
        by_epoch: Whether validations were logged by epochs.
        last: Last iteration that was logged.
        pictures: (iteration, file), ascending, by the name of the picture.
        environment: (name, value) lines of the log.
        times: When the log begins and ends; None without a log.
        record: What ``RunRecordHook`` wrote; empty if nothing.
        config: Text of the config; empty without one.
        starts: Number of times that the run was started.
    """

    name: str
    training: dict[str, Curve] = field(default_factory=dict)
    validation: dict[str, Curve] = field(default_factory=dict)
    by_epoch: bool = False
    last: int = 0
    pictures: dict[str, list[tuple[int, Path]]] = field(default_factory=dict)
    environment: list[tuple[str, str]] = field(default_factory=list)
    times: tuple[datetime, datetime] | None = None
    record: dict = field(default_factory=dict)
    config: str = ''
    starts: int = 0


def read_run(work_dir: Path) -> Run:
    """Reads a work dir.

    Args:
        work_dir: Of a training.

    Raises:
        ValueError: There are no scalars, or a line of them is damaged.
    """
    run = Run(work_dir.resolve().name)
    training: dict[str, dict[float, float]] = {}
    validation: dict[str, dict[float, float]] = {}
    epochs: dict[int, int] = {}  # last iteration of each
    for scalars in read_scalars(work_dir):
        step = scalars.pop('step', 0)
        in_training = 'iter' in scalars
        if in_training:
            run.last = max(run.last, step)
            if 'epoch' in scalars:
                epochs[scalars['epoch']] = step
        found = training if in_training else validation
        for name, value in scalars.items():
            if name not in ('iter', 'epoch'):
                found.setdefault(name, {})[step] = value
    run.by_epoch = bool(epochs) and max((max(points) for points in validation.values()), default=0) <= max(epochs)
    run.training = {name: sorted(points.items()) for name, points in training.items()}
    if run.by_epoch:
        validation = {
            name: {epochs.get(step, step): value for step, value in points.items()}
            for name, points in validation.items()
        }
    run.validation = {
        name: sorted(points.items()) for name, points in validation.items() if name not in ('time', 'data_time')
    }
    _read_rest(run, work_dir)
    return run


def read_scalars(work_dir: Path) -> Iterator[dict[str, float]]:
    """Yields the lines of a work dir's scalars, in order, what is no number left out.

    Raises:
        ValueError: There are none, or a line is damaged.
    """
    empty = True
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):  # the names are times
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            try:
                scalars = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f'{file}, line {number} is no JSON ({error}); remove the line or the file') from error
            found = {name: value for name, value in scalars.items() if isinstance(value, int | float)}
            if found:
                empty = False
                yield found
    if empty:
        raise ValueError(
            f"'{work_dir}' has no */vis_data/scalars.json with scalars in it; give the --work-dir of a training whose "
            "visualizer has vis_backends=[dict(type='LocalVisBackend')]"
        )


def _read_rest(run: Run, work_dir: Path) -> None:
    """Reads pictures, logs, records and the config."""
    folders = sorted(path for path in work_dir.iterdir() if (path / 'vis_data').is_dir())
    run.starts = len(folders)
    pictures: dict[str, dict[int, Path]] = {}
    for folder in folders:
        for path in sorted((folder / 'vis_data' / 'vis_image').glob('*')):
            if match := PICTURE.match(path.name):
                pictures.setdefault(match[1], {})[int(match[2])] = path
        for log in sorted(folder.glob('*.log')):
            _read_log(run, log.read_text(errors='replace'))
        record = folder / 'run.json'
        if record.is_file():
            run.record = json.loads(record.read_text())
        config = folder / 'vis_data' / 'config.py'
        run.config = config.read_text() if config.is_file() else run.config
    run.pictures = {name: sorted(steps.items()) for name, steps in pictures.items()}


def _read_log(run: Run, text: str) -> None:
    """Takes times, the name and the environment out of a log; of several runs the last one's environment."""
    times = [match[1] for line in text.splitlines() if (match := TIME.match(line))]
    if times:
        first, last = (datetime.strptime(time, '%Y/%m/%d %H:%M:%S') for time in (times[0], times[-1]))
        run.times = (run.times[0] if run.times else first, last)
    if match := re.search(r'Exp name: (\S+)', text):
        run.name = re.sub(r'_\d{8}_\d{6}$', '', match[1])
    block = re.search(r'^System environment:\n(.*?)\n\n?Runtime environment:\n(.*?)\n-{20}', text, re.M | re.S)
    if block:
        lines = '\n'.join(block.groups()).splitlines()
        pairs = [re.match(r'^ {4}(\S[^:]*): (.*)$', line) for line in lines]  # deeper ones are PyTorch's build
        run.environment = [
            (pair[1], pair[2]) for pair in pairs if pair and not pair[1].startswith('PyTorch compiling details')
        ]
