from mmplugins import doctor
from mmplugins.version import __version__


def test_report(capsys):
    doctor.main()
    report = capsys.readouterr().out
    assert f'mmplugins               {__version__}' in report
    assert 'PyTorch' in report
    assert 'MODELS            mmplugins.OhemCrossEntropyLoss' in report


def test_missing_host_is_explained(monkeypatch, capsys):
    reason = 'mmseg is not installed; run `pip install it`'
    monkeypatch.setattr(
        doctor, 'components', lambda: iter([('MODELS', 'A', None), ('MODELS', 'B', reason), ('MODELS', 'C', reason)])
    )
    monkeypatch.setattr(doctor, 'problem_with', lambda host: None if host == 'mmengine' else reason)
    doctor.main()
    report = capsys.readouterr().out
    assert 'B, C cannot be built here: mmseg is not installed; run `pip install it`.' in report
    assert f'mmseg                   {reason}' in report
    assert 'mmplugins.A                         ok' in report
