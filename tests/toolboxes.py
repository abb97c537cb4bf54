"""What tests need of the toolboxes."""

import pytest
from mmengine.config import ConfigDict

from mmplugins.hosts import problem_with


def need(*hosts: str) -> None:
    """Skips the test where one of these toolboxes cannot be used."""
    for host in hosts:
        if problem := problem_with(host):
            pytest.skip(f'{host} is needed: {problem}')


def need_those_of(scope: str, model: ConfigDict) -> None:
    """Skips the test where a model's toolbox cannot be used, or mmdet, on which mask heads of mmseg's stand too."""
    need(scope, *(['mmdet'] if 'FormerSegHead' in str(model) else []))
