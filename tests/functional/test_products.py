"""Linear layers and attention by oneDNN: the values of PyTorch's own, where nothing is differentiated."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from mmplugins.functional import products
from mmplugins.functional.device import plain_path
from mmplugins.functional.products import attention, linear
from tests.locations import ROOT


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain_attention(query, key, value, heads):
    """The formula, head by head."""
    outs = []
    for q, k, v in zip(*(x.chunk(heads, 2) for x in (query, key, value)), strict=True):
        outs.append((q @ k.mT / q.shape[2] ** 0.5).softmax(2) @ v)
    return torch.cat(outs, 2)


@pytest.mark.parametrize('bias', [random(5, seed=2), None], ids=['bias', 'no-bias'])
def test_linear(bias):
    x, weight = random(2, 3, 7), random(5, 7, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias))


@pytest.mark.parametrize('rows', [2, 160])
def test_attention(rows, monkeypatch):
    """In blocks that do not divide the queries, and in one."""
    monkeypatch.setattr(products, '_ROWS', rows)
    query, key, value = (random(2, length, 12, seed=seed) for seed, length in enumerate((7, 9, 9)))
    expected = plain_attention(query, key, value, 3)
    with torch.no_grad():
        torch.testing.assert_close(attention(query, key, value, 3), expected)
        with plain_path():
            torch.testing.assert_close(attention(query, key, value, 3), expected)


def test_which_path(monkeypatch):
    """oneDNN's without gradients; with them, in other precisions and on the plain path, PyTorch's own."""
    calls = []
    blocked = products._blocked_attention
    monkeypatch.setattr(products, '_blocked_attention', lambda *args: calls.append(1) or blocked(*args))
    x = random(1, 4, 8)
    attention(x, x, x, 2)
    with torch.no_grad():
        attention(x.double(), x.double(), x.double(), 2)
        with plain_path():
            attention(x, x, x, 2)
        with torch.autocast('cpu', torch.bfloat16):
            attention(x, x, x, 2)
        assert not calls
        attention(x, x, x, 2)
    assert len(calls) == products._has_linear()


def test_gradients():
    x, weight = random(2, 3, 7).double().requires_grad_(), random(5, 7, seed=1).double().requires_grad_()
    torch.autograd.gradcheck(linear, (x, weight))
    torch.autograd.gradcheck(lambda x: attention(x, x, x, 2), random(1, 3, 4).double().requires_grad_())


def test_freed_memory_is_kept():
    """A tensor of 64 MiB again and again: once the free pieces are large enough, no page is fetched anew."""
    code = (
        'import resource, torch\n'
        'from mmplugins.functional.device import keep_freed_memory\n'
        'kept = keep_freed_memory()\n'
        'def faults():\n'
        '    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n'
        '    torch.ones(1 << 24)\n'
        '    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n'
        'for _ in range(24): faults()\n'
        'print(kept, faults())\n'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    if kept == 'False':
        pytest.skip('the C library is not glibc')
    assert int(faults) < 1000  # of 16,384 pages
