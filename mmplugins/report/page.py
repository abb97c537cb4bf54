"""The page of a run: everything in one file. Whatever comes from a run is escaped."""

import shlex
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from mmplugins.version import __version__

from .panels import SHARES, is_auxiliary, is_loss, panels
from .pictures import chosen, data_uri
from .work_dir import Run

PICTURES = {
    'look_pixels': 'Pixels: what is kept, and how it is weighed',
    'look_matching': 'Matching: which query took which object, and why',
    'look_points': 'Points: where masks are compared',
    'look_clip': 'Clip: objects, identities in the memory, predictions',
}
# A config's helpers, which are copied into the others, are not listed.
USED = (
    *('model', 'train_dataloader', 'val_dataloader', 'train_cfg', 'val_cfg', 'optim_wrapper', 'param_scheduler'),
    *('val_evaluator', 'default_hooks', 'custom_hooks', 'load_from', 'resume', 'auto_scale_lr', 'env_cfg'),
    *('randomness', 'visualizer', 'log_processor', 'default_scope', 'model_wrapper_cfg', 'sync_bn', 'runner_type'),
)
# Nothing is loaded: no script, style, picture or font from anywhere.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(run: Run, most_pictures: int = 6) -> str:
    """Writes the page.

    Args:
        run: The run.
        most_pictures: Of one name.

    Returns:
        HTML, without anything that a browser would have to load.
    """
    sections = [
        ('curves', 'Curves', _curves(run)),
        ('pictures', 'What the losses see, in pictures', _pictures(run, most_pictures)),
        ('validation', 'Validation', _validation(run)),
        ('config', 'Config', _config(run)),
        ('environment', 'Environment', _environment(run)),
        ('command', 'Command', _command(run)),
    ]
    sections = [section for section in sections if section[2]]
    links = ''.join(f'<a href="#{key}">{escape(title.partition(",")[0])}</a>' for key, title, _ in sections)
    body = ''.join(f'<h2 id="{key}">{escape(title)}</h2>{content}' for key, title, content in sections)
    style = files('mmplugins.report').joinpath('style.css').read_text(encoding='utf-8')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<title>{escape(run.name)}</title><style>{style}</style></head>\n'
        f'<body><header><h1>{escape(run.name)}</h1>{_subtitle(run)}{_cards(run)}<nav>{links}</nav></header>\n'
        f'<main>{body}</main>\n<footer>mmplugins {escape(__version__)}</footer></body></html>\n'
    )


def _subtitle(run: Run) -> str:
    if run.times is None:
        return ''
    begin, end = run.times
    again = f', started {run.starts} times' if run.starts > 1 else ''
    return f'<p class="soft">{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}{again}</p>'


def _cards(run: Run) -> str:
    """Writes the numbers that one looks for first."""
    cards = [(f'{run.last}', 'iterations')]
    if 'loss' in run.training:
        cards.append((_number(run.training['loss'][-1][1]), 'training loss'))
    if 'val/loss' in run.validation:
        cards.append((_number(run.validation['val/loss'][-1][1]), 'validation loss'))
    metrics = [name for name in run.validation if '/' not in name or not name.startswith('val/')]
    best = next((name for name in metrics if name.rpartition('/')[2] in _WANTED), None)
    if best is not None:
        cards.append((_number(run.validation[best][-1][1]), best))
    if 'time' in run.training:
        times = sorted(value for _, value in run.training['time'])
        cards.append((f'{_number(times[len(times) // 2])} s', 'a step, median'))
    return (
        '<div class="cards">'
        + ''.join(f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in cards)
        + '</div>'
    )


_WANTED = ('mIoU', 'PQ', 'bbox_mAP', 'segm_mAP', 'J&F', 'Sm')


def _curves(run: Run) -> str:
    parts = []
    for heading, found in panels(run):
        found = [(title, svg) for title, svg in found if svg]
        if found:
            figures = ''.join(f'<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>' for title, svg in found)
            parts.append(f'<h3>{escape(heading)}</h3><div class="grid">{figures}</div>')
    note = (
        '<p class="soft">Over iterations. The number in a legend is the last value. A start far above the rest is cut '
        'off.</p>'
    )
    return note + ''.join(parts) if parts else ''


def _validation(run: Run) -> str:
    """Writes a line for each metric and loss of the validations: last, least and greatest value."""
    rows = []
    for name, curve in sorted(run.validation.items(), key=lambda item: is_loss(item[0][4:])):
        if is_auxiliary(name) or name in SHARES:
            continue
        least, greatest = (choose(curve, key=lambda point: point[1]) for choose in (min, max))
        cells = [_number(curve[-1][1]), *(f'{_number(value)} at {step:g}' for step, value in (least, greatest))]
        rows.append([('name', name), *(('number', cell) for cell in cells)])
    if not rows:
        return ''
    head = ''.join(f'<th class="number">{name}</th>' for name in ('last', 'least', 'greatest'))
    head = f'<tr><th>name</th>{head}</tr>'
    return f'<div class="wide"><table>{head}{_rows(rows)}</table></div>'


def _pictures(run: Run, most: int) -> str:
    """Writes a strip for each name, the newest picture first; those of ``LossPictureHook`` before others."""
    parts = []
    names = [*(name for name in PICTURES if name in run.pictures), *sorted(set(run.pictures) - set(PICTURES))[:12]]
    for name in names:
        shown = []
        for step, path in reversed(chosen(run.pictures[name], most)):
            try:
                source = data_uri(path)
            except OSError:  # a picture that a killed run has not finished
                continue
            caption = f'<figcaption>iteration {step}</figcaption>'
            alt = escape(f'{name}, iteration {step}')
            shown.append(f'<figure>{caption}<img src="{source}" alt="{alt}" loading="lazy"></figure>')
        if shown:
            title = PICTURES.get(name, name)
            more = len(run.pictures[name]) - len(shown)
            left = f' <span class="soft">({more} more in the work dir)</span>' if more > 0 else ''
            parts.append(f'<h3>{escape(title)}{left}</h3><div class="strip">{"".join(shown)}</div>')
    return ''.join(parts)


def _config(run: Run) -> str:
    """Writes what the config sets otherwise than its base, and the whole of it."""
    record, parts = run.record, []
    if record.get('base') is not None:
        bases = ', '.join(f'<code>{escape(base)}</code>' for base in record['bases'])
        changes = list(config_changes(record['base'], record['settings']))
        told = f'{len(changes)} settings differ from' if changes else 'Nothing differs from'
        name = escape(record['config'])
        parts.append(f'<p><code>{name}</code>, command line included. {told} its base, {bases}.</p>')
        if changes:
            head = '<tr><th>setting</th><th>base</th><th>this run</th></tr>'
            rows = _rows(
                [
                    ('code name', key),
                    (f'code value{" gone" if old else ""}', old),
                    (f'code value{" added" if new else ""}', new),
                ]
                for key, old, new in changes
            )
            parts.append(f'<div class="wide"><table class="changes">{head}{rows}</table></div>')
    elif record:
        parts.append(f'<p><code>{escape(record["config"])}</code> inherits from no other config.</p>')
    elif run.config:
        parts.append(
            '<p class="soft">What it inherited is not known: the run was not started with tools/train.py of '
            'mmplugins.</p>'
        )
    if run.config:
        parts.append(f'<details><summary>The whole config</summary><pre>{escape(run.config)}</pre></details>')
    return ''.join(parts)


def config_changes(base: dict[str, str], settings: dict[str, str]) -> Iterable[tuple[str, str, str]]:
    """Yields name, value in the base and value in the run ('': not there) of the settings that differ."""
    used = {key: USED.index(key.partition('.')[0]) for key in {*base, *settings} if key.partition('.')[0] in USED}
    for key in sorted(used, key=lambda key: (used[key], key)):
        old, new = base.get(key, ''), settings.get(key, '')
        if old != new:
            yield key, old, new


def _environment(run: Run) -> str:
    rows = [*run.record.get('versions', {}).items()]
    known = {name.lower() for name, _ in rows}
    rows += [(name, value) for name, value in run.environment if name.lower() not in known]
    if not rows:
        return ''
    cells = [[('name', name), ('code', value)] for name, value in rows]
    return f'<div class="wide"><table>{_rows(cells)}</table></div>'


def _command(run: Run) -> str:
    if 'command' not in run.record:
        return ''
    return f'<pre class="command">python {escape(shlex.join(run.record["command"]))}</pre>'


def _rows(rows: Iterable[Sequence[tuple[str, str]]]) -> str:
    """Writes rows of a table; a cell is a class and a text. A name may break behind a dot."""

    def written(kind: str, text: str) -> str:
        return escape(text).replace('.', '.<wbr>') if 'name' in kind else escape(text)

    return ''.join(
        '<tr>' + ''.join(f'<td class="{kind}">{written(kind, text)}</td>' for kind, text in row) + '</tr>'
        for row in rows
    )


def _number(value: float) -> str:
    return f'{value:.4g}'
