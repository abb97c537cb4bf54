"""The formulations that the benchmark compares with give what ours gives."""

import sys

import pytest
import torch

from mmplugins.testing import assert_relative
from tests.locations import ROOT

sys.path.insert(0, str(ROOT / 'benchmarks'))

from benchmark_cases import load_cases
from benchmark_cases.short_term_attention import short_term_attention


@pytest.mark.parametrize('name', ['unfold', 'released'])
def test_values_and_gradients(name):
    inputs = load_cases()['short_term_attention'].make_inputs(torch.device('cpu'), (1, 2, 6, 17, 4))
    ours, other = (short_term_attention.contenders[key].build(**inputs)() for key in ('ours', name))
    assert_relative(other, ours.detach(), 1e-5, name)
    grads = [torch.autograd.grad(out.square().sum(), list(inputs.values())) for out in (ours, other)]
    for key, mine, theirs in zip(inputs, *grads, strict=True):
        assert_relative(theirs, mine, 1e-5, f'gradient of {key}')
