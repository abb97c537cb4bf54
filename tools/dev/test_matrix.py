"""Runs the tests in the environments of ``requirements/matrix/``: ``python tools/dev/test_matrix.py [NAME ...]``.

Each file there is an environment, pinned to the last package. Its first lines are comments that say how it is made:

- ``# python: 3.10``: the interpreter, ``python3.10`` on the path or pyenv's.
- ``# first: torch==2.1.2 numpy==1.26.4``: installed with what they ask for; from PyPI that is a CUDA build, several GB.
- everything else is installed by its pin alone, as mmcv-lite asks for an mmengine that is not the fork's.

Environments are made once, in ``.venv-matrix/``. The table at the end is Markdown; logs lie in ``work_dirs/matrix/``.
"""

import os
import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / 'requirements' / 'matrix'
SHOWN = {  # columns of the table, and the distributions that may fill them
    'PyTorch': ['torch'],
    'numpy': ['numpy'],
    'mmengine': ['onedl-mmengine', 'mmengine'],
    'mmcv': ['onedl-mmcv', 'mmcv', 'mmcv-lite'],
    'mmsegmentation': ['onedl-mmsegmentation', 'mmsegmentation'],
    'mmdetection': ['onedl-mmdetection', 'mmdet'],
}
# The benchmarks need a profiler that PyTorch 2.1 has not; they belong to the one environment that is measured in.
TESTS = ['tests', '--ignore', 'tests/benchmarks']


def settings(file: Path) -> dict[str, str]:
    """Returns what the comments at the head of an environment's file say, by key."""
    return dict(re.findall(r'^# (\w+): (.*)$', file.read_text(), re.M))


def pins(file: Path) -> dict[str, str]:
    """Returns the version of each package of an environment, by name."""
    text = file.read_text() + '\n' + settings(file)['first'].replace(' ', '\n')
    return dict(re.findall(r'^([A-Za-z][\w.-]*)==(\S+)$', text, re.M))


def interpreter(version: str) -> str | None:
    """Finds a Python of a version, as '3.10'; None if there is none."""
    found = shutil.which(f'python{version}')
    if found and subprocess.run([found, '-V'], capture_output=True).returncode == 0:  # pyenv's shims may lead nowhere
        return found
    root = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv'))
    candidates = sorted((root / 'versions').glob(f'{version}.*/bin/python'))
    return str(candidates[-1]) if candidates else None


def environment(file: Path, folder: Path, log) -> Path | None:
    """Makes the environment of a file unless it is there.

    Args:
        file: Of ``requirements/matrix/``.
        folder: Where the environment lies.
        log: Open file for what pip says.

    Returns:
        Its Python; None if there is no such interpreter.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    python, ready = folder / 'bin' / 'python', folder / '.ready'
    if ready.is_file() and ready.read_text() == file.read_text():
        return python
    base = interpreter(settings(file)['python'])
    if base is None:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    pip = [python, '-m', 'pip', 'install', '--disable-pip-version-check']
    for command in (
        [base, '-m', 'venv', folder],
        [*pip, *settings(file)['first'].split(), 'setuptools<82', 'wheel'],
        [*pip, '--no-deps', '-r', file],
        [*pip, '--no-deps', '--no-build-isolation', '-e', ROOT],
    ):
        subprocess.run(command, check=True, stdout=log, stderr=log, cwd=ROOT)
    ready.write_text(file.read_text())
    return python


def run(file: Path, args: list[str], folder: Path) -> str:
    """Runs the tests in an environment and returns pytest's closing line, or why there is none."""
    logs = ROOT / 'work_dirs' / 'matrix'
    logs.mkdir(parents=True, exist_ok=True)
    path = logs / f'{file.stem}.log'
    with path.open('w') as log:
        try:
            python = environment(file, folder, log)
        except subprocess.CalledProcessError as error:
            return f'not made: pip ended with {error.returncode}, see {path.relative_to(ROOT)}'
        if python is None:
            return f'not made: there is no Python {settings(file)["python"]}'
        variables = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
        command = [python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-W', 'ignore', *TESTS, *args]
        subprocess.run(command, stdout=log, stderr=log, cwd=ROOT, env=variables)
    closing = re.findall(r'^=*\s*((?:\d+ \w+, )*\d+ \w+) in [\d.]+s', path.read_text(), re.M)
    return closing[-1] if closing else f'no result, see {path.relative_to(ROOT)}'


def row(file: Path, result: str) -> str:
    """Returns an environment's row of the table."""
    found = pins(file)
    cells = [settings(file)['python']]
    for names in SHOWN.values():
        name = next((name for name in names if name in found), None)
        shown = f'{name} ' if name and len(names) > 1 else ''
        cells.append(f'{shown}{found[name]}' if name else '-')
    return f'| {" | ".join([*cells, result, str(date.today())])} |'


def main() -> None:
    """Runs the tool; ends with 1 if a test failed or an environment could not be made."""
    parser = ArgumentParser(description='Run the tests in the environments of requirements/matrix/.')
    parser.add_argument('names', nargs='*', metavar='NAME', help='environments, as py310-torch21; default: all')
    parser.add_argument('--envs', default=ROOT / '.venv-matrix', type=Path, help='folder of the environments')
    parser.add_argument('--once', action='store_true', help='remove each environment after its tests, to save disk')
    parser.add_argument('--pytest', default="-m 'not slow'", help="options for pytest (default: -m 'not slow')")
    args = parser.parse_args()
    known = {file.stem: file for file in sorted(FILES.glob('*.txt'))}
    unknown = set(args.names) - set(known)
    if unknown:
        parser.error(f'there is no environment {", ".join(sorted(unknown))}; there are {", ".join(known)}')
    rows, good = [], True
    for name in args.names or known:
        print(f'== {name}', flush=True)
        options = [part.strip('\'"') for part in re.findall(r"'[^']*'|\"[^\"]*\"|\S+", args.pytest)]
        result = run(known[name], options, args.envs / name)
        print(f'   {result}', flush=True)
        good = good and 'passed' in result and not re.search('failed|error', result)
        rows.append(row(known[name], result))
        if args.once:
            shutil.rmtree(args.envs / name, ignore_errors=True)
    print(f'\n| Python | {" | ".join(SHOWN)} | tests | date |\n|{"---|" * (len(SHOWN) + 3)}')
    print('\n'.join(rows))
    sys.exit(0 if good else 1)


if __name__ == '__main__':
    main()
