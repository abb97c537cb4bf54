"""What a run was started with, for its report: the command, and the config beside its base.

mmengine keeps a config as it was when the run started, in which what was inherited can no longer be told from what was
set; and it keeps no command.
"""

import ast
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmplugins.version import __version__

RECORD = 'run.json'
DISTRIBUTIONS = (
    *('torch', 'numpy', 'mmengine', 'onedl-mmengine', 'mmcv', 'mmcv-lite', 'onedl-mmcv', 'mmsegmentation'),
    *('onedl-mmsegmentation', 'mmdet', 'onedl-mmdetection'),
)


class RunRecordHook(Hook):
    """Writes ``<work_dir>/<time>/run.json`` when a run starts.

    Args:
        config: File of the config.
        arguments: Of the command; None: the program's own.
    """

    def __init__(self, config: str, arguments: Sequence[str] | None = None) -> None:
        self.config = config
        self.command = [*sys.argv[:1], *(sys.argv[1:] if arguments is None else arguments)]

    def before_run(self, runner: Runner) -> None:
        """Writes the record, in the first process."""
        if runner.rank:
            return
        bases, base = base_settings(self.config)
        record = dict(
            command=self.command,
            config=self.config,
            bases=bases,
            base=base,
            settings=dict(settings(runner.cfg)),
            versions=dict(_versions()),
        )
        path = Path(runner.log_dir, RECORD)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1))


def base_settings(config: str) -> tuple[list[str], dict[str, str] | None]:
    """Returns the files that a config inherits from, and their settings; none, and None, if it inherits from none.

    A config in the new style (``read_base``) counts as one that inherits from none: its base is code.
    """
    path = Path(config)
    bases = _bases_of(path) if path.suffix == '.py' else []
    if not bases:
        return [], None
    whole = [base if '::' in base else str((path.parent / base).resolve()) for base in bases]
    with TemporaryDirectory() as folder:
        joined = Path(folder, 'base.py')
        joined.write_text(f'_base_ = {whole!r}\n')
        return bases, dict(settings(Config.fromfile(joined)))


def settings(config: Mapping, prefix: str = '') -> Iterator[tuple[str, str]]:
    """Yields name, with dots, and value, as text, of all that a config sets; a list is one value."""
    for key, value in config.items():
        name = f'{prefix}{key}'
        if isinstance(value, Mapping) and value:
            yield from settings(value, f'{name}.')
        else:
            yield name, _text(value)


def _text(value: object) -> str:
    """Writes a value, a line for each entry of a list of dicts."""
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return '\n'.join(_text(item) for item in value)
    if isinstance(value, Mapping) and 'type' in value:
        kind = value['type'] if isinstance(value['type'], str) else value['type'].__name__
        return f'{kind}({", ".join(f"{name}={_text(item)}" for name, item in value.items() if name != "type")})'
    if isinstance(value, Mapping):
        return f'dict({", ".join(f"{name}={_text(item)}" for name, item in value.items())})'
    return repr(value)


def _bases_of(path: Path) -> list[str]:
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', None) == '_base_':
            bases = eval(compile(ast.Expression(node.value), str(path), 'eval'))  # as mmengine does
            return [bases] if isinstance(bases, str) else list(bases)
    return []


def _versions() -> Iterator[tuple[str, str]]:
    yield 'mmplugins', __version__
    for name in DISTRIBUTIONS:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
