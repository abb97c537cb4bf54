import types

import pytest
from mmengine.registry import Registry

from mmplugins import hosts
from mmplugins.hosts import HOSTS, install_command, originals, placeholder, problem_with, require_host

FORK = {'onedl-mmengine': '0.10.12', 'mmcv-lite': '2.2.0'}
ORIGINAL = {'mmengine': '0.10.7', 'mmcv-lite': '2.1.0'}


def pretend(monkeypatch, *, missing=(), version='1.4.2', error=None, distributions=FORK):
    """Makes mmseg look as if it were missing, of a version, or broken, beside other distributions."""

    def find_spec(name):
        return None if name in missing else object()

    def import_module(name):
        if error:
            raise error
        return types.SimpleNamespace(__version__=version)

    def version_of(name):
        if name not in distributions:
            raise hosts.metadata.PackageNotFoundError(name)
        return distributions[name]

    monkeypatch.setattr(hosts, 'find_spec', find_spec)
    monkeypatch.setattr(hosts.importlib, 'import_module', import_module)
    monkeypatch.setattr(hosts.metadata, 'version', version_of)


def test_good_host(monkeypatch):
    pretend(monkeypatch)
    assert problem_with('mmseg') is None
    require_host('mmseg', 'CamVidDataset')


@pytest.mark.parametrize(
    ('situation', 'problem'),
    [
        (dict(missing=['mmseg']), 'mmseg is not installed; run `pip install onedl-mmsegmentation==1.4.2`'),
        (
            dict(missing=['mmcv'], distributions={'onedl-mmengine': '0.10.12'}),
            'mmcv is not installed; run `pip install --no-deps mmcv-lite==2.2.0 && pip install onedl-mmsegmentation==',
        ),
        (dict(version='1.1.9'), 'mmseg 1.1.9 is older than 1.2.0; run `pip install onedl-mmsegmentation==1.4.2'),
        (dict(error=AssertionError('MMCV==1.0 is used')), r'mmseg does not import \(MMCV==1.0 is used\); run `pip'),
    ],
)
def test_bad_host(monkeypatch, situation, problem):
    pretend(monkeypatch, **situation)
    with pytest.raises(ImportError, match='CamVidDataset needs mmseg: ' + problem):
        require_host('mmseg', 'CamVidDataset')


def test_operators_are_asked_for_where_the_toolbox_needs_them(monkeypatch):
    """mmsegmentation 1.2.2 imports mmcv.ops, the fork's 1.4.2 does not; every mmdet does."""
    sentence = 'needs an mmcv with operators (mmcv._ext)'
    for host, version, needs in (('mmseg', '1.2.2', True), ('mmseg', '1.4.2', False), ('mmdet', '3.5.1', True)):
        pretend(monkeypatch, missing=['mmcv._ext'], version=version)
        problem = problem_with(host)
        assert (sentence in problem) if needs else problem is None
        pretend(monkeypatch, version=version)
        assert problem_with(host) is None


class TestAdvice:
    """The command fits the distributions that are there."""

    @pytest.mark.parametrize(
        ('distributions', 'host', 'command'),
        [
            ({}, 'mmengine', 'pip install onedl-mmengine==0.10.12'),
            (FORK, 'mmdet', 'pip install onedl-mmdetection==3.5.1'),
            ({'onedl-mmcv': '2.3.6'}, 'mmseg', 'pip install onedl-mmsegmentation==1.4.2'),
            (ORIGINAL, 'mmdet', 'pip install mmdet==3.3.0'),
            (ORIGINAL, 'mmseg', 'pip install mmsegmentation==1.2.2 ftfy regex'),
            ({'mmengine': '0.10.7', 'mmcv': '2.1.0'}, 'mmdet', 'pip install mmdet==3.3.0'),
            ({'mmengine': '0.10.7'}, 'mmdet', 'pip install mmcv-lite==2.1.0 && pip install mmdet==3.3.0'),
            (
                {'mmengine': '0.10.7', 'mmcv': '2.2.0'},
                'mmdet',
                'pip uninstall -y mmcv && pip install mmcv-lite==2.1.0 && pip install mmdet==3.3.0',
            ),
            ({'mmdet': '3.3.0'}, 'mmengine', 'pip install mmengine==0.10.7'),
        ],
    )
    def test_command(self, monkeypatch, distributions, host, command):
        pretend(monkeypatch, distributions=distributions)
        assert install_command(host) == command

    def test_whose_toolboxes_are_there(self, monkeypatch):
        for distributions, expected in ((FORK, False), (ORIGINAL, True), ({}, False), ({'mmcv-lite': '2.1.0'}, False)):
            pretend(monkeypatch, distributions=distributions)
            assert originals() is expected

    def test_originals_are_never_told_to_install_the_fork(self, monkeypatch):
        for host in HOSTS:
            pretend(monkeypatch, missing=[host, 'mmcv'], distributions={'mmsegmentation': '1.2.2'})
            assert 'onedl' not in problem_with(host)


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
        assert host.original in host.original_install, name
        assert {host.distribution, host.original} <= set(host.tested)
