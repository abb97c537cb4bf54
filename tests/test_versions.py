"""The versions that were tested are the same wherever they are stated."""

import ast
import re
from pathlib import Path

import pytest

from mmplugins.hosts import HOSTS

ROOT = Path(__file__).parents[1]
PINS = '\n'.join(path.read_text() for path in (ROOT / 'requirements').glob('*.txt'))


@pytest.mark.parametrize('host', HOSTS)
def test_requirements_and_readme_name_the_tested_version(host):
    distribution = HOSTS[host].distribution
    assert re.search(rf'^{re.escape(distribution)}$', PINS, re.M), f'requirements/ lacks {distribution}'
    readme = (ROOT / 'README.md').read_text()
    assert distribution.replace('==', ' ') in readme


def test_torch_is_pinned_once():
    versions = set(re.findall(r'^torch==(\S+)$', PINS, re.M))
    assert len(versions) == 1
    assert f'pip install torch=={versions.pop()}' in (ROOT / 'README.md').read_text()


def test_mmcv_lite_is_the_one_of_the_readme():
    (version,) = re.findall(r'mmcv-lite==(\S+)', (ROOT / 'Makefile').read_text())
    assert f'mmcv-lite=={version}' in (ROOT / 'README.md').read_text()
    assert f'mmcv-lite=={version}' in HOSTS['mmcv'].install


# What came after Python 3.10, the oldest that is supported; None: the whole module.
NEWER = {
    'tomllib': None,
    'contextlib': {'chdir'},
    'datetime': {'UTC'},
    'enum': {'EnumCheck', 'ReprEnum', 'StrEnum', 'verify'},
    'itertools': {'batched'},
    'typing': {
        *('LiteralString', 'Never', 'NotRequired', 'Required', 'Self', 'TypeVarTuple', 'Unpack'),
        *('assert_never', 'assert_type', 'dataclass_transform', 'override', 'reveal_type'),
    },
}


def test_nothing_newer_than_python_3_10_is_imported():
    paths = [path for folder in ('mmplugins', 'tools', 'configs') for path in (ROOT / folder).rglob('*.py')]
    assert len(paths) > 200
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 10))):
            if isinstance(node, ast.ImportFrom) and node.module in NEWER:
                newer = NEWER[node.module]
                wrong = [alias.name for alias in node.names if newer is None or alias.name in newer]
                assert not wrong, f'{path.relative_to(ROOT)} imports {wrong} of {node.module}'
            elif isinstance(node, ast.Import):
                assert not [alias.name for alias in node.names if NEWER.get(alias.name, ()) is None], path
