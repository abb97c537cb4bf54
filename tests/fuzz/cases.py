"""What the fuzz tests share: the decorator that counts cases, random tensors of every kind, and how values compare.

hypothesis draws the kind of a case (sizes, dtypes, memory layout, what is ignored, how the logits look, a seed), which
is what it can shrink; the seed fills the tensors.
"""

import functools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmplugins.functional.compat import VERSION
from mmplugins.functional.device import plain_path

RUN: Counter = Counter()  # cases that ran, by component
PATHS = {'cpu': nullcontext, 'plain': plain_path}
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
LAYOUTS = ('contiguous', 'swapped', 'strided', 'offset', 'expanded')
LOGITS = ('normal', 'equal', 'large', 'huge', 'zero')
BROKEN = (float('nan'), float('inf'), float('-inf'))
SEEDS = st.integers(0, 2**32 - 1)
BOUNDS = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2, torch.float32: 2e-5, torch.float64: 1e-8}


@contextmanager
def profile(name: str) -> Iterator[None]:
    """Takes one of hypothesis's profiles for a while."""
    before = settings.get_current_profile_name()
    settings.load_profile(name)
    try:
        yield
    finally:
        settings.load_profile(before)


def fuzz(component: str, **strategies):
    """Makes a test of a registered component that hypothesis calls with what the strategies draw; counts its cases.

    The number of cases is that of the profile when the test runs, not when it is imported.
    """

    def decorate(test):
        @functools.wraps(test)
        def once(**drawn):
            RUN[component] += 1
            return test(**drawn)

        drawn = given(**strategies)(once)

        def run():
            current = settings.get_profile(settings.get_current_profile_name())
            return settings(current)(drawn)()

        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        return run

    return decorate


def layout(x: Tensor, kind: str) -> Tensor:
    """Gives a tensor with the same values and another layout in memory; 'expanded' copies the first image to all."""
    if x.dim() < 2 or kind == 'contiguous':
        return x
    if kind == 'swapped':
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    if kind == 'strided':
        wide = x.new_zeros(*x.shape[:-1], 2 * x.shape[-1])
        wide[..., ::2] = x
        return wide[..., ::2]
    if kind == 'offset':
        padded = x.new_zeros(*x.shape[:-2], x.shape[-2] + 1, x.shape[-1] + 2)
        padded[..., 1:, 1:-1] = x
        return padded[..., 1:, 1:-1]
    return x[:1].expand_as(x) if len(x) else x


def random_logits(generator: torch.Generator, shape, kind: str, dtype: torch.dtype) -> Tensor:
    """Draws logits, all of which the dtype can hold."""
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    x = x * {'normal': 2, 'equal': 0, 'large': 60, 'huge': 1e4, 'zero': 1}[kind] + (3 if kind == 'equal' else 0)
    if kind == 'zero':
        x = torch.where(x > 0, 0.0, x)
    return x.clamp(-6e4, 6e4).to(dtype)


def resized_on_cpu(dtype: torch.dtype) -> torch.dtype:
    """A dtype, or bfloat16 in place of float16 where PyTorch does not resize it on the CPU."""
    return torch.bfloat16 if dtype == torch.float16 and VERSION < (2, 3) else dtype


def broken_at(x: Tensor, where: Tensor, value: float, generator: torch.Generator) -> Tensor:
    """Puts a value that is not finite where a mask, of the logits' shape, allows it, in one place; a copy."""
    x, places = x.clone(), where.expand_as(x).nonzero()
    if len(places):
        x[tuple(places[torch.randint(len(places), (), generator=generator)])] = value
    return x


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype, what: str, scale: float | None = None) -> None:
    """Fails unless a value has the shape of the reference's and, relative to its largest value, nearly its values.

    What is not finite in the reference must not be finite here: NaN where it is NaN, and NaN or the same infinity
    where it is infinite.
    """
    assert actual.shape == expected.shape, f'{what}: shape {tuple(actual.shape)} instead of {tuple(expected.shape)}'
    actual, expected = actual.detach().double(), expected.detach().double()
    finite = expected.isfinite()
    wrong = ~finite & actual.isfinite()
    assert not wrong.any(), f'{what} is finite where the reference is not: {actual[wrong][:3]}, {expected[wrong][:3]}'
    assert actual[finite].isfinite().all(), f'{what} is not finite where the reference is: {actual}, {expected}'
    if finite.any():
        size = max(float(expected[finite].abs().max()), scale or 0.0)
        error = float((actual - expected)[finite].abs().max())
        bound = BOUNDS[dtype] * size + torch.finfo(dtype).tiny * 2**24
        assert error <= bound, f'{what}: {error:.3g} apart at a size of {size:.3g}, {actual} instead of {expected}'


def on_both_paths(test) -> None:
    """Runs a comparison with the CPU's kernels and on the plain path."""
    for name, path in PATHS.items():
        with path():
            try:
                test()
            except AssertionError as error:
                raise AssertionError(f'path {name!r}: {error}') from error
