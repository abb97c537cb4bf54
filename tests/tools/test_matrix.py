"""tools/dev/test_matrix.py, with a Python that stands for pip and pytest."""

import importlib.util
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from mmplugins.hosts import HOSTS
from tests.locations import ROOT

spec = importlib.util.spec_from_file_location('matrix_tool', ROOT / 'tools' / 'dev' / 'test_matrix.py')
matrix = importlib.util.module_from_spec(spec)
spec.loader.exec_module(matrix)
FILES = sorted((ROOT / 'requirements' / 'matrix').glob('*.txt'))


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_every_environment_is_pinned(file):
    found = matrix.settings(file)
    lines = [line for line in file.read_text().splitlines() if not line.startswith('#')]
    assert all(re.fullmatch(r'[\w.-]+==[\w.]+', line) for line in [*lines, *found['first'].split()])
    pins = matrix.pins(file)
    assert len(pins) == len(lines) + len(found['first'].split())
    assert file.stem.startswith(f'py{found["python"].replace(".", "")}-torch{".".join(pins["torch"].split(".")[:2])}')
    assert {'torch', 'numpy', 'pytest', 'hypothesis'} <= set(pins)


def test_the_corners_are_covered():
    pins = [matrix.pins(file) for file in FILES]
    assert {'3.10', '3.11', '3.12', '3.13'} == {matrix.settings(file)['python'] for file in FILES}
    torch = [Version(one['torch']) for one in pins]
    assert min(torch) < Version('2.2')
    assert max(torch) >= Version('2.14')
    assert {Version(one['numpy']).major for one in pins} == {1, 2}


@pytest.mark.parametrize('host', HOSTS)
def test_every_version_that_is_called_tested_is_in_an_environment(host):
    files = [*FILES, *(ROOT / 'requirements').glob('*.txt'), ROOT / 'Makefile']
    text = '\n'.join(file.read_text() for file in files)
    for distribution in HOSTS[host].tested:
        assert re.search(rf'(^|\s){re.escape(distribution)}$', text, re.M), distribution


@pytest.fixture
def file(tmp_path, monkeypatch):
    """An environment whose tests are a program."""
    monkeypatch.setattr(matrix, 'ROOT', tmp_path)
    path = tmp_path / 'py310-small.txt'
    path.write_text('# Small.\n# python: 3.10\n# first: torch==2.1.2 numpy==1.26.4\nmmcv-lite==2.1.0\nmmdet==3.3.0\n')
    return path


@pytest.mark.parametrize(
    ('closing', 'result'),
    [
        ('3 passed, 1 skipped in 2.10s (0:00:02)', '3 passed, 1 skipped'),
        ('==== 1 failed, 3 passed in 2.10s ====', '1 failed, 3 passed'),
        ('Killed', 'no result, see work_dirs/matrix/py310-small.log'),
    ],
)
def test_result(monkeypatch, file, tmp_path, closing, result):
    program = tmp_path / 'python'
    program.write_text(f'#!/bin/sh\necho "{closing}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(matrix, 'environment', lambda *args: program)
    assert matrix.run(file, [], tmp_path) == result


def test_result_without_an_environment(monkeypatch, file, tmp_path):
    monkeypatch.setattr(matrix, 'interpreter', lambda version: None)
    assert matrix.run(file, [], tmp_path / 'env') == 'not made: there is no Python 3.10'

    def fail(*args):
        raise subprocess.CalledProcessError(1, 'pip')

    monkeypatch.setattr(matrix, 'environment', fail)
    assert matrix.run(file, [], tmp_path).startswith('not made: pip ended with 1, see work_dirs')


def test_environment_is_made_once(monkeypatch, file, tmp_path):
    commands = []
    monkeypatch.setattr(matrix, 'interpreter', lambda version: sys.executable)

    def pretend(command, **options):
        commands.append([str(part) for part in command])
        (tmp_path / 'env').mkdir(exist_ok=True)

    monkeypatch.setattr(matrix.subprocess, 'run', pretend)
    for _ in range(2):
        assert matrix.environment(file, tmp_path / 'env', None) == tmp_path / 'env/bin/python'
    assert len(commands) == 4
    assert commands[0][1:3] == ['-m', 'venv']
    assert commands[1][-4:-2] == ['torch==2.1.2', 'numpy==1.26.4']
    assert '--no-deps' in commands[2]
    file.write_text(file.read_text() + 'mmengine==0.10.7\n')
    matrix.environment(file, tmp_path / 'env', None)
    assert len(commands) == 8


def test_row(file):
    assert matrix.row(file, '3 passed').startswith(
        '| 3.10 | 2.1.2 | 1.26.4 | - | mmcv-lite 2.1.0 | - | mmdet 3.3.0 | 3 passed | 20'
    )


def test_interpreter_of_pyenv(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', '')
    monkeypatch.setenv('PYENV_ROOT', str(tmp_path))
    assert matrix.interpreter('3.10') is None
    python = tmp_path / 'versions' / '3.10.13' / 'bin' / 'python'
    python.parent.mkdir(parents=True)
    python.touch()
    assert matrix.interpreter('3.10') == str(python)


def test_extras_leave_the_toolboxes_to_extras_of_their_own():
    """``seg`` and ``full`` would otherwise install the fork over what is there."""
    text = (ROOT / 'setup.py').read_text()
    space: dict = {}
    exec(text[text.index('SEG = ') : text.index('\n\nclass ')], space)
    extras = {name: [Requirement(line) for line in lines] for name, lines in space['EXTRAS'].items()}
    toolboxes = {name.partition('==')[0] for host in HOSTS.values() for name in host.tested}
    for name, requirements in extras.items():
        names = {requirement.name for requirement in requirements}
        assert not names & {'mmcv', 'mmcv-lite', 'onedl-mmcv', 'numpy', 'opencv-python', 'pillow'}
        if name in ('seg', 'full', 'saliency', 'pretrained'):
            assert not names & toolboxes
        else:
            assert len({one.startswith('onedl-') for one in names & toolboxes}) == 1
