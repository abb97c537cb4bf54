"""Runs mmcv's own functions on the plain operators, whatever mmcv is installed, and beside the compiled ones."""

import sys
from types import SimpleNamespace

import mmcv.ops  # noqa: F401  all its modules
import pytest
import torch
from torch import Tensor

from mmplugins.ops import compiled
from mmplugins.ops.extension import OPERATORS

PLAIN = SimpleNamespace(**OPERATORS)
MODULES = [
    module for name, module in sys.modules.items() if name.startswith('mmcv.ops.') and hasattr(module, 'ext_module')
]
needs_compiled = pytest.mark.skipif(
    not compiled(), reason='mmcv has no compiled operators here; `make test-compiled` has'
)


def use_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets all functions of ``mmcv.ops`` call the plain operators."""
    assert len(MODULES) > 20
    for module in MODULES:
        monkeypatch.setattr(module, 'ext_module', PLAIN)


def outputs_and_gradients(function, *args) -> list[Tensor]:
    """Returns what a function returns, and the gradients of a weighted sum of it by its floating arguments."""
    args = [arg.clone().requires_grad_() if needs_grad(arg) else arg for arg in args]
    output = function(*args)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output)
    leaves = [arg for arg in args if needs_grad(arg)]
    return [output.detach(), *torch.autograd.grad((output * weight).sum(), leaves, allow_unused=True)]


def needs_grad(arg: object) -> bool:
    return isinstance(arg, Tensor) and arg.is_floating_point() and not getattr(arg, 'constant', False)


def constant(tensor: Tensor) -> Tensor:
    """Marks an argument that has no gradient."""
    tensor.constant = True
    return tensor


def assert_same_as_compiled(function, *args, tolerance: float = 1e-6) -> None:
    """Compares values and gradients with those of the compiled operators; differences relative, in the 2-norm."""
    theirs = outputs_and_gradients(function, *args)
    with pytest.MonkeyPatch.context() as patch:
        use_plain(patch)
        ours = outputs_and_gradients(function, *args)
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        assert (mine is None) == (other is None)
        if mine is not None:
            difference = float((mine - other).norm() / other.norm().clamp(min=1e-30))
            assert difference <= tolerance, f'tensor {number}: relative difference {difference}'


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def random_boxes(count: int, size: float, seed: int = 0, largest: float = 0.5) -> Tensor:
    """Boxes (count, 4), x1, y1, x2, y2, some of which reach past the image; float32."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator) * size
    half = torch.rand(count, 2, generator=generator) * size * largest / 2 + 1
    return torch.cat([centre - half, centre + half], 1)
