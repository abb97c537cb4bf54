"""Every code block of the documentation is run, or, where that takes a GPU, data or hours, held against the tools.

Python: the block is executed, with stand-ins for what the reader brings (logits, labels, files); types that it names
are looked up, losses are built and called. Shell: files, configs, make targets, extras and options must exist.
"""

import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as ENGINE_MODELS
from mmengine.registry import init_default_scope
from PIL import Image

from mmplugins import registry
from mmplugins.registry import MODELS
from tests.locations import ROOT

PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *ROOT.glob('docs/*.md'), *ROOT.glob('configs/*/README.md')]


def blocks(language: str) -> list:
    """Page and text of each block of a language."""
    return [
        pytest.param(text, id=f'{path.relative_to(ROOT)}-{number}')
        for path in PAGES
        for number, text in enumerate(re.findall(rf'```{language}\n(.*?)```', path.read_text(), re.DOTALL))
    ]


PYTHON, SHELL = blocks('python'), blocks('bash')


def test_blocks_were_found():
    assert len(PYTHON) > 12
    assert len(SHELL) > 12


# Python ---------------------------------------------------------------------------------------------------------------


def settings(value: object) -> Iterator[dict]:
    """Every dict with a type inside a config's value."""
    if isinstance(value, dict):
        if 'type' in value:
            yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from settings(one)


def is_registered(name: str) -> bool:
    kinds = [value for name, value in vars(registry).items() if name.isupper() and hasattr(value, 'get')]
    return any(kind.get(name) is not None for kind in kinds)


def check_loss(cfg: dict) -> None:
    """Builds a loss and calls it once."""
    loss = MODELS.build({key: value for key, value in cfg.items() if key != '_delete_'})
    binary = cfg['type'].rpartition('.')[2] in ('StructureLoss', 'BCEIoULoss', 'SoftIoULoss')
    logits = torch.randn(2, 1 if binary else 4, 8, 8, requires_grad=True)
    step = {'step': 0} if 'TopK' in cfg['type'] else {}
    value = loss(logits, torch.randint(0, 2, (2, 8, 8)), **step)
    value.backward()
    assert value.isfinite()
    assert logits.grad.abs().sum() > 0


def stand_ins(text: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict:
    """What a block uses and its reader brings."""
    torch.manual_seed(0)
    space: dict = {
        'logits': torch.randn(2, 4, 16, 16),
        'head_output': torch.randn(2, 4, 4, 4),
        'label': torch.randint(0, 4, (2, 16, 16)),
        'weight': torch.ones(2, 16, 16),
        'iteration': 10,
        'costs': [{'type': 'mmplugins.ClassificationCost'}],
        'frames': [torch.randn(1, 3, 65, 97) for _ in range(2)],
        'mask': torch.zeros(1, 33, 49, dtype=torch.uint8),
    }
    space['mask'][:, 10:20, 10:20] = 1
    if re.search(r'^loss\(', text, re.MULTILINE):
        space['loss'] = MODELS.build({'type': 'mmplugins.TopKCrossEntropyLoss'})
    if 'SetCriterion(' in text:
        from mmplugins.models.losses import SetCriterion

        space['SetCriterion'] = SetCriterion
    monkeypatch.setattr('mmengine.runner.load_checkpoint', lambda *_, **__: None)  # random weights
    (folder / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.chdir(folder)
    for config, checkpoint in re.findall(r"Inferencer\('(.*?)', '(.*?)'\)", text):
        cfg = Config.fromfile(config)
        init_default_scope(cfg.default_scope)
        model = ENGINE_MODELS.build(cfg.model)
        torch.save({'state_dict': model.state_dict(), 'meta': {}}, folder / checkpoint)
        Image.new('RGB', (64, 48)).save(folder / 'image.jpg')
    return space


@pytest.mark.slow
@pytest.mark.parametrize('text', PYTHON)
def test_python_block(text, monkeypatch, tmp_path):
    space = stand_ins(text, monkeypatch, tmp_path)
    before = set(space)
    with torch.no_grad() if 'VideoEngine' in text else torch.enable_grad():
        exec(compile(text, 'block', 'exec'), space)
    made = {name: value for name, value in space.items() if name not in before and not name.startswith('__')}
    named = [cfg for value in made.values() if not isinstance(value, types.ModuleType) for cfg in settings(value)]
    for cfg in named:
        if str(cfg['type']).startswith('mmplugins.'):
            assert is_registered(cfg['type']), cfg['type']
            if cfg['type'].endswith('Loss') and not cfg['type'].endswith('MaskLoss'):
                check_loss(cfg)
    for name in ('loss', 'value'):
        if isinstance(made.get(name), torch.Tensor):
            assert made[name].isfinite()


# Shell ----------------------------------------------------------------------------------------------------------------


@cache
def help_of(*command: str) -> str:
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'COLUMNS': '200'}
    done = subprocess.run([sys.executable, *command, '--help'], capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands(text: str) -> list[list[str]]:
    """The words of each simple command of a block."""
    text = re.sub(r'\\\n', ' ', text)
    found = []
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        while words:
            ends = [i for i, word in enumerate(words) if word in ('&&', '&', '|', ';', 'wait')]
            end = ends[0] if ends else len(words)
            found.append(words[:end])
            words = words[end + 1 :]
    return [words for words in found if words]


def check_make(words: list[str]) -> None:
    targets = [word for word in words[1:] if '=' not in word and not word.startswith('-')]
    text = (ROOT / 'Makefile').read_text()
    for target in targets:
        assert re.search(rf'^{re.escape(target.strip(")"))}:', text, re.MULTILINE), target


def check_pip(words: list[str]) -> None:
    extras = set(re.findall(r"^    '([\w-]+)':", (ROOT / 'setup.py').read_text(), re.MULTILINE))
    for word in words:
        for extra in re.findall(r'^\.\[(.*)\]$', word):
            assert set(extra.split(',')) <= extras, word


def check_python(words: list[str]) -> None:
    script = words[:2] if words[0] == '-m' else words[:1]
    if script[0] == '-m' and not script[1].startswith('mmplugins'):
        return  # someone else's
    if script[0] != '-m':
        if not script[0].startswith(('tools/', 'benchmarks/', 'docs/')):
            return
        assert (ROOT / script[0]).is_file(), script[0]
    options = [word.split('=')[0].strip('[]') for word in words if re.match(r'\[?--\w', word)]
    if options and script != ['-m', 'mmplugins.with_ops']:
        shown = help_of(*script)
        for option in options:
            assert option in shown, f'{" ".join(script)} has no {option}'


@pytest.mark.slow
@pytest.mark.parametrize('text', SHELL)
def test_shell_block(text):
    for words in commands(text):
        while words and (re.match(r'\w+=', words[0]) or words[0] in ('time', '(time', 'bash', '.')):
            words = words[1:]
        if not words:
            continue
        for word in words:
            for path in re.findall(r'configs/[\w/.-]+\.py', word):
                if '*' not in word and '$' not in word:
                    assert (ROOT / path).is_file(), path
        program = words[0]
        if program == 'make':
            check_make(words)
        elif program == 'pip':
            check_pip(words)
        elif Path(program).name == 'python':
            check_python(words[1:])
        elif program.startswith('tools/'):
            assert os.access(ROOT / program, os.X_OK), program
