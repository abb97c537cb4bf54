import subprocess
import sys

import pytest
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope

from mmplugins.registry import MODELS


def run_python(code: str) -> str:
    """Runs code in a fresh interpreter and gives what it printed."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize('scope', ['mmplugins', 'mmseg', 'mmdet', 'mmengine', None])
@pytest.mark.parametrize('custom_imports', [False, True])
def test_builds_from_every_scope_with_and_without_custom_imports(scope, custom_imports):
    pytest.importorskip(scope or 'mmengine')
    if scope in ('mmseg', 'mmdet') and not custom_imports:
        alone = subprocess.run([sys.executable, '-W', 'ignore', '-c', f'import {scope}.models'], capture_output=True)
        if alone.returncode:
            pytest.skip(f'{scope} needs the compiled operators of mmcv, or mmplugins imported before it')
    code = 'import mmplugins\n' if custom_imports else ''
    code += 'from mmengine.registry import MODELS, init_default_scope\n'
    registry = 'MODELS'
    if scope is not None:
        code += f'init_default_scope({scope!r})\n'
        if scope != 'mmengine':
            code += f'from {scope}.registry import MODELS as SCOPED\n'
            registry = 'SCOPED'
    code += f'print(type({registry}.build(dict(type="mmplugins.OhemCrossEntropyLoss", thresh=0.5))).__module__)\n'
    assert run_python(code).splitlines()[-1] == 'mmplugins.models.losses.ohem_cross_entropy_loss'


def test_a_loss_imports_no_host():
    code = (
        'import sys; from mmplugins.registry import MODELS; MODELS.build(dict(type="SoftJaccardLoss"));'
        'print([name for name in sys.modules if name in ("mmseg", "mmdet", "mmcv")])'
    )
    assert run_python(code) == '[]'


def test_importing_the_package_is_cheap_and_imports_no_host():
    code = (
        'import time, sys, mmengine, mmengine.registry; start = time.perf_counter(); import mmplugins;'
        'took = time.perf_counter() - start;'
        'print(took, [name for name in sys.modules if name in ("mmseg", "mmdet", "mmcv", "mmplugins.models")])'
    )
    runs = [run_python(code).split(' ', 1) for _ in range(3)]
    assert {hosts for _, hosts in runs} == {'[]'}
    assert min(float(took) for took, _ in runs) < 0.2


def test_parents_types_are_found():
    with DefaultScope.overwrite_default_scope('mmplugins'):
        assert MODELS.build(dict(type='mmengine.BaseDataPreprocessor')).__class__.__module__.startswith('mmengine')
    assert MODELS.get('BaseDataPreprocessor') is ROOT.get('BaseDataPreprocessor')


def test_unknown_type():
    with pytest.raises(KeyError, match=r'mmplugins\.NoSuchLoss is not in the'):
        MODELS.build(dict(type='mmplugins.NoSuchLoss'))
