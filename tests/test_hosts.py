import types

import pytest
from mmengine.registry import Registry

from mmplugins import hosts
from mmplugins.hosts import HOSTS, placeholder, problem_with, require_host


def pretend(monkeypatch, *, missing=(), version='1.4.2', error=None):
    """Makes mmseg look as if it were missing, of a version, or broken."""

    def find_spec(name):
        return None if name in missing else object()

    def import_module(name):
        if error:
            raise error
        return types.SimpleNamespace(__version__=version)

    monkeypatch.setattr(hosts, 'find_spec', find_spec)
    monkeypatch.setattr(hosts.importlib, 'import_module', import_module)


def test_good_host(monkeypatch):
    pretend(monkeypatch)
    assert problem_with('mmseg') is None
    require_host('mmseg', 'CamVidDataset')


@pytest.mark.parametrize(
    ('situation', 'problem'),
    [
        (dict(missing=['mmseg']), 'mmseg is not installed; run `pip install onedl-mmsegmentation==1.4.2 && pip in'),
        (dict(missing=['mmcv']), 'mmcv is not installed; run `pip install onedl-mmsegmentation==1.4.2 && pip in'),
        (dict(version='1.1.9'), 'mmseg 1.1.9 is older than 1.2.0; run `pip install onedl-mmsegmentation==1.4.2'),
        (dict(error=AssertionError('MMCV==1.0 is used')), r'mmseg does not import \(MMCV==1.0 is used\); run `pip'),
    ],
)
def test_bad_host(monkeypatch, situation, problem):
    pretend(monkeypatch, **situation)
    with pytest.raises(ImportError, match='CamVidDataset needs mmseg: ' + problem):
        require_host('mmseg', 'CamVidDataset')


def test_mmdet_needs_mmcv_with_operators_or_without(monkeypatch):
    pretend(monkeypatch, missing=['mmcv._ext'], version='3.5.1')
    assert problem_with('mmdet') is None
    pretend(monkeypatch, missing=['mmcv'], version='3.5.1')
    assert problem_with('mmdet').startswith('mmcv is not installed; run `pip install onedl-mmdetection==3.5.1 && ')


def test_local_version_is_accepted(monkeypatch):
    pretend(monkeypatch, version='a-local-build')
    assert problem_with('mmseg') is None


def test_placeholder_raises_when_built():
    registry = Registry('things', scope='things')
    placeholder('PFNetHead', registry, 'mmseg', 'mmseg is not installed; run `pip install it`')
    with pytest.raises(ImportError, match='PFNetHead needs mmseg: mmseg is not installed; run `pip install it`'):
        registry.build(dict(type='PFNetHead', in_channels=3))


def test_every_host_states_what_was_tested():
    for name, host in HOSTS.items():
        assert host.distribution in host.install, name
        assert host.tested
