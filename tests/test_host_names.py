"""What we import from the toolboxes is there in every version that we support.

``host_names.txt`` lists it. A new name fails here until it is added, and an added one fails in the environments of
``make test-matrix`` that lack it: the toolboxes move names about, such as mmdet's INSTANCE_OFFSET.
"""

import ast
import importlib

import pytest

from mmplugins.hosts import problem_with
from tests.locations import ROOT

HOSTS = ('mmengine', 'mmcv', 'mmdet', 'mmseg')
LISTED = (ROOT / 'tests' / 'host_names.txt').read_text().split('\n')[:-1]


def imported() -> set[str]:
    """Names that the package and the tools import, as 'module name'."""
    found = set()
    for path in (path for folder in ('mmplugins', 'tools') for path in (ROOT / folder).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level and node.module.split('.')[0] in HOSTS:
                found.update(f'{node.module} {alias.name}' for alias in node.names)
    return found


def test_every_imported_name_is_listed():
    assert sorted(imported()) == LISTED, 'see the head of this file'
    assert len(LISTED) > 100


@pytest.mark.parametrize('host', HOSTS)
def test_every_listed_name_is_there(host):
    if problem := problem_with(host):
        pytest.skip(problem)
    names = [line.split(' ') for line in LISTED if line.split('.')[0].split(' ')[0] == host]
    assert names
    missing = [f'{module}.{name}' for module, name in names if not hasattr(importlib.import_module(module), name)]
    assert not missing
