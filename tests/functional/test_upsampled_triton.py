"""Triton kernels of losses from low-resolution logits: on the interpreter, on CUDA, and compiled without a GPU."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from mmplugins.functional import device, upsampled_triton
from mmplugins.functional.device import plain_path, triton_serves
from mmplugins.functional.upsampled import UpsampledLogits, triton_kernels
from tests.locations import ROOT

HAS_TRITON = pytest.mark.skipif(
    find_spec('triton') is None, reason='Triton is not installed (requirements/dev.txt names it for Linux on x86-64)'
)


def run_cases(**environment):
    path = ROOT / 'tests' / 'functional' / 'triton_cases.py'
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(path)]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = re.search(r'^(\d+) passed(.*) in ', done.stdout, re.M)
    assert int(summary[1]) > 25, done.stdout
    return summary[2]


@HAS_TRITON
@pytest.mark.slow
def test_on_the_interpreter():
    assert 'skipped' not in run_cases(TRITON_INTERPRET='1')


@HAS_TRITON
@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_on_cuda():
    run_cases(TRITON_INTERPRET='0', MMPLUGINS_TRITON='1')


KERNELS = {
    '_loss_kernel': {},
    '_gradient_kernel': {},
    '_sum_kernel': {'HAS_SHARE': True, 'WITH_GRAD': True},
    '_correct_kernel': {},
}


@HAS_TRITON
@pytest.mark.parametrize('name', KERNELS)
def test_compiles_for_a_gpu(name, tmp_path, monkeypatch):
    """No GPU is needed for it; sizes of 1 are constants to the compiler, as at a launch."""
    pytest.importorskip('triton', minversion='3.7', reason='older ones compile in another way')
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    kernel = getattr(upsampled_triton, name)
    tables = {'label': '*i64', 'counts': '*i32', 'first_row': '*i32', 'first_column': '*i32', 'ignore_index': 'i64'}
    floats = ('maps', 'loss', 'log_sum', 'factor', 'share', 'sums', 'corners', 'row_fraction', 'column_fraction')
    for width in (None, 1):
        constants = {'ROWS': 8, 'COLUMNS': 8, 'BLOCK': 16, 'row_pieces': 1, 'column_pieces': 1, **KERNELS[name]}
        constants |= {} if width is None else {'width': width, 'classes': 1}
        types = {x: tables.get(x, '*fp32' if x in floats else 'i32') for x in kernel.arg_names}
        types |= dict.fromkeys(constants, 'constexpr')
        places = {(kernel.arg_names.index(x),): value for x, value in constants.items()}
        compiled = triton.compile(ASTSource(kernel, types, places), target=GPUTarget('cuda', 80, 32))
        assert len(compiled.asm['cubin']) > 1000


def test_the_cpu_takes_none():
    x = torch.zeros(1, 2, 3, 4)
    assert not triton_serves(x)
    assert triton_kernels(UpsampledLogits(x, (6, 8))) is None
    with plain_path():
        assert not triton_serves(x)


@pytest.mark.parametrize(('version', 'found'), [(None, False), ('3.6.0', False), ('3.7.0', True), ('3.10.1', True)])
def test_without_triton_or_with_an_old_one(version, found, monkeypatch):
    module = None if version is None else type(sys)('triton')
    if module:
        module.__version__ = version
    monkeypatch.setitem(sys.modules, 'triton', module)
    assert device._has_triton.__wrapped__() is found
