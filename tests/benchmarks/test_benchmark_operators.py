"""The operators that the benchmark compares give the same values and gradients."""

import sys

import pytest
import torch

from mmplugins.ops import compiled
from tests.locations import ROOT

sys.path.insert(0, str(ROOT / 'benchmarks'))

from benchmark_cases import load_cases
from benchmark_cases._measure import measure


@pytest.mark.parametrize('name', ['ms_deform_attn', 'roi_align', 'nms', 'soft_nms', 'modulated_deform_conv'])
def test_contenders_agree(name):
    report = measure(load_cases()[name], 'small', torch.device('cpu'), rounds=1)
    ours, other = report['contenders']
    assert ours['samples']['forward']
    if other['name'] == 'compiled' and not compiled():
        assert other['skipped'] == 'mmcv has no compiled operators here'
    else:
        assert other['difference']['agrees']
