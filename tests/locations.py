"""Where tests find golden values and real data."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / 'shared'


def golden_files(pattern: str) -> list:
    """Golden files of the repository and, where a checkout has them beside it, of the full set; each once."""
    files = {}
    for folder in (SHARED / 'golden', ROOT / 'tests' / 'golden'):
        files.update({path.name: path for path in folder.glob(pattern)})
    return [pytest.param(path, id=path.stem) for _, path in sorted(files.items())]


def data_root(name: str) -> Path:
    """Folder of a real data set, or a skip that says where it was looked for."""
    candidates = [Path(os.environ.get('MMPLUGINS_DATA', ROOT / 'data')) / name, SHARED / 'data' / name]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    pytest.skip(f'data set {name} is in none of {[str(path) for path in candidates]}')
