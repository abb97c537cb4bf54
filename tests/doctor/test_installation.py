import sys
import types

import pytest

from mmplugins import registry as registry_module
from mmplugins.doctor import installation as doctor
from mmplugins.version import __version__
from mmplugins.wheels import Wheel


def test_report(capsys):
    doctor.main()
    report = capsys.readouterr().out
    assert f'mmplugins               {__version__}' in report
    assert 'PyTorch' in report
    assert 'MODELS            mmplugins.OhemCrossEntropyLoss' in report


def test_missing_host_is_explained(monkeypatch, capsys):
    reason = 'mmseg is not installed; run `pip install it`'
    listed = [('MODELS', 'A', None), ('MODELS', 'B', reason), ('MODELS', 'C', reason)]
    monkeypatch.setattr(doctor, 'components', lambda wrong: iter(listed))
    monkeypatch.setattr(doctor, 'problem_with', lambda host: None if host == 'mmengine' else reason)
    doctor.main()
    report = capsys.readouterr().out
    assert 'B, C cannot be built here: mmseg is not installed; run `pip install it`.' in report
    assert f'mmseg                   {reason}' in report
    assert 'mmplugins.A                         ok' in report


def test_a_broken_toolbox_does_not_end_the_report(monkeypatch, capsys):
    def broken(registry):
        raise ImportError('No module named mmcv._ext')

    monkeypatch.setattr(registry_module.PluginRegistry, 'import_from_location', broken)
    doctor.main()
    assert 'MODELS cannot be imported: ImportError: No module named mmcv._ext' in capsys.readouterr().out


def test_two_distributions_of_one_module(monkeypatch):
    both = {'onedl-mmengine': '0.10.12', 'mmengine': '0.10.7'}
    monkeypatch.setattr(doctor, 'installed', lambda host: both if host == 'mmengine' else {})
    (warning, *_) = doctor.warnings()
    assert warning.startswith('onedl-mmengine and mmengine share the files of mmengine')
    assert 'run `pip uninstall -y onedl-mmengine mmengine`' in warning


def test_numpy_that_torch_was_not_built_for(monkeypatch):
    def refuse(array):
        raise RuntimeError('Numpy is not available')

    monkeypatch.setattr('torch.from_numpy', refuse)
    assert any("(Numpy is not available): run `pip install 'numpy<2'`" in warning for warning in doctor.warnings())


def test_uncompiled_losses_are_told(monkeypatch):
    def told():
        return any('torch.compile leaves our losses out' in warning for warning in doctor.warnings())

    monkeypatch.setattr(doctor, 'VERSION', (2, 1))
    assert told()
    monkeypatch.setattr(doctor, 'VERSION', doctor.COMPILES_SINCE)
    assert not told()


@pytest.mark.parametrize('original', [False, True])
def test_operators(monkeypatch, original):
    """A wheel if there is one, else which there are; always how to compile, and what it is like without."""
    monkeypatch.setattr(doctor, 'originals', lambda: original)
    monkeypatch.setattr(doctor, 'installed', lambda host: {'mmcv-lite': '2.1.0'})
    owner, source = ('OpenMMLab', 'mmcv==2.1.0') if original else ('VBTI', 'onedl-mmcv==2.3.6')
    monkeypatch.setattr(doctor, 'published', lambda *versions: Wheel('pip install a-wheel'))
    text = '\n'.join(doctor.operators())
    assert f'{owner} publishes a wheel for Python' in text
    assert '  pip uninstall -y mmcv-lite && pip install a-wheel' in text
    assert f'pip uninstall -y mmcv-lite && pip install --no-build-isolation {source}' in text
    assert 'Without: every component of mmplugins works' in text
    monkeypatch.setattr(doctor, 'published', lambda *versions: Wheel(None))
    monkeypatch.setattr(doctor, 'alternatives', lambda *versions: ['PyTorch 2.8.0 (CPU)'])
    text = '\n'.join(doctor.operators())
    assert f'{owner} publishes no wheel for Python' in text
    assert ('With this Python there are wheels for PyTorch 2.8.0 (CPU).' in text) is not original


def test_compiled_operators_are_known_from_others(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv._ext', types.ModuleType('mmcv._ext'))  # put there by hand
    assert not doctor.compiled()
