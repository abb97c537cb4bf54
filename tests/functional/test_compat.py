import pytest
import torch

from mmplugins.functional import compat
from mmplugins.functional.compat import autocast_dtype, compiled_where_exact, extremes, is_compiling


def test_autocast():
    assert autocast_dtype('cpu') is None
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert autocast_dtype('cpu') == torch.bfloat16
        assert autocast_dtype('cuda') is None
        with torch.autocast('cpu', enabled=False):
            assert autocast_dtype('cpu') is None


def test_autocast_as_pytorch_2_1_says_it(monkeypatch):
    monkeypatch.setattr(compat, 'VERSION', (2, 1))
    monkeypatch.setattr(torch, 'is_autocast_cpu_enabled', lambda: True, raising=False)
    monkeypatch.setattr(torch, 'get_autocast_cpu_dtype', lambda: torch.bfloat16, raising=False)
    monkeypatch.setattr(torch, 'is_autocast_enabled', lambda: True)
    monkeypatch.setattr(torch, 'get_autocast_gpu_dtype', lambda: torch.float16, raising=False)
    assert autocast_dtype('cpu') == torch.bfloat16
    assert autocast_dtype('cuda') == torch.float16
    assert autocast_dtype('meta') is None


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8])
@pytest.mark.parametrize('version', [(2, 1), (2, 6)])
def test_extremes(monkeypatch, dtype, version):
    if version > compat.VERSION:
        pytest.skip('not on this PyTorch')
    monkeypatch.setattr(compat, 'VERSION', version)
    assert extremes(torch.tensor([[3, 1], [0, 7]], dtype=dtype)).tolist() == [0, 7]


@pytest.mark.slow
def test_is_compiling():
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: x + 1 if is_compiling() else x, backend='eager')
    assert not is_compiling()
    assert compiled(torch.zeros(1)).tolist() == [1]


@pytest.mark.slow
@pytest.mark.parametrize('trusted', [False, True])
def test_old_compilers_are_kept_out(monkeypatch, trusted):
    """Inside a compiled function it runs as it is; ``is_compiling`` tells."""
    monkeypatch.setattr(compat, 'COMPILES_SINCE', (0, 0) if trusted else (99, 0))
    torch._dynamo.reset()
    inner = compiled_where_exact(lambda x: x + 1 if is_compiling() else x)
    assert torch.compile(lambda x: inner(x), backend='eager')(torch.zeros(1)).tolist() == [float(trusted)]
