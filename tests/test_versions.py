"""The versions that were tested are the same wherever they are stated."""

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
