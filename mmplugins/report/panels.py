"""Which curves of a run stand together, under which heading."""

import re
from collections.abc import Iterator

from .charts import Series, chart
from .work_dir import Curve, Run

AUXILIARY = re.compile(r'^d\d+\.')  # decoder layers before the last: in the total, and no curve of their own
SHARES = ('match_stability',)  # 0 to 1
RATES = ('lr', 'base_lr', 'momentum')
WORK = ('time', 'data_time', 'memory', 'grad_norm')
TITLES = {
    'loss': 'loss, total',
    'match_stability': 'match stability: objects with one query in the last two layers',
    'class_error': 'class error of matched queries, %',
    'lr': 'learning rate',
    'time': 'seconds a step, and of these for data',
    'memory': 'GPU memory, MB',
    'grad_norm': 'gradient norm',
}


def panels(run: Run) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yields headings with the panels below each, (title, SVG); all that was logged is in one.

    Args:
        run: The run.
    """
    training = {name: curve for name, curve in run.training.items() if not is_auxiliary(name)}
    validation = {name: curve for name, curve in run.validation.items() if not is_auxiliary(name)}
    losses = [name for name in training if is_loss(name)]
    losses += [name[4:] for name in validation if name.startswith('val/') and name[4:] not in training]
    losses.sort(key=lambda name: name != 'loss')
    yield 'Losses', [_loss_panel(name, training, validation) for name in losses]
    kept = [name for name in training if name.rpartition('/')[2].endswith('_kept')]
    matching = [name for name in ('match_stability', 'class_error', 'cardinality_error') if name in training]
    matching += [name for name in SHARES if name in validation]
    panel = [_panel(f'pixels kept by {name[:-5]}', {name: training[name]}, percent=True) for name in kept]
    panel += [
        _panel(TITLES.get(name, name), {name: training.get(name) or validation[name]}, percent=name in SHARES)
        for name in matching
    ]
    yield 'What the losses see', panel
    metrics = [name for name in validation if not name.startswith('val/') and name not in SHARES]
    yield 'Metrics', [_panel(name, {name: validation[name]}, marked=True, from_zero=False) for name in metrics]
    rates = [name for name in RATES if name in training]
    if training.get('base_lr') == training.get('lr'):
        rates = [name for name in rates if name != 'base_lr']
    work = [_panel(TITLES.get(name, name), {name: training[name]}) for name in rates]
    work += [_panel(TITLES['time'], {name: training[name] for name in WORK[:2] if name in training})]
    work += [_panel(TITLES[name], {name: training[name]}) for name in WORK[2:] if name in training]
    yield 'Rates and work', work
    told = {*losses, *kept, *matching, *RATES, *WORK}
    rest = [name for name in training if name not in told]
    yield 'Also logged', [_panel(name, {name: training[name]}, from_zero=False) for name in rest]


def is_loss(name: str) -> bool:
    """Whether a name of the log is that of a loss."""
    return name.rpartition('.')[2].startswith('loss')


def is_auxiliary(name: str) -> bool:
    """Whether a name of the log is that of a loss of a decoder layer before the last."""
    return bool(AUXILIARY.match(name.removeprefix('val/')))


def _loss_panel(name: str, training: dict[str, Curve], validation: dict[str, Curve]) -> tuple[str, str]:
    series = [Series('training', training[name])] if name in training else []
    if f'val/{name}' in validation:
        series.append(Series('validation', validation[f'val/{name}'], True))
    return TITLES.get(name, name), chart(series)


def _panel(title: str, curves: dict[str, Curve], marked: bool = False, **options) -> tuple[str, str]:
    series = [Series(name, curve, marked or len(curve) < 12) for name, curve in curves.items()]
    return title, chart(series, **options)
