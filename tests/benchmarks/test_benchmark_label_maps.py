"""mmseg's way to count the areas of classes finds the same."""

import sys

import torch

from tests.locations import ROOT

sys.path.insert(0, str(ROOT / 'benchmarks'))

from benchmark_cases import load_cases
from benchmark_cases._measure import measure


def test_contenders_agree():
    report = measure(load_cases()['class_areas'], 'small', torch.device('cpu'), rounds=1)
    ours, mmseg = report['contenders']
    assert ours['samples']['forward']
    assert mmseg['skipped'] or mmseg['difference']['agrees']
