"""All ways to match that the benchmark compares find the same pairs."""

import sys

import pytest
import torch

from mmplugins.testing import load_golden
from tests.locations import ROOT, golden_files

sys.path.insert(0, str(ROOT / 'benchmarks'))

from benchmark_cases import load_cases
from benchmark_cases._measure import measure
from benchmark_cases.matching import released_match


@pytest.mark.parametrize('path', golden_files('detr_[0-9].npz'))
def test_released_formula(path):
    golden = load_golden(path)
    images = range(golden['logits'].shape[1])
    truth = [golden[f'gt_{name}{b}'] for name in ('labels', 'boxes') for b in images]
    for layer, (logits, boxes) in enumerate(zip(golden['logits'], golden['boxes'], strict=True)):
        pairs = released_match(logits, boxes, truth[: len(images)], truth[len(images) :])
        for b, (query, index) in enumerate(pairs):
            assert torch.equal(query, golden[f'match_query_{layer}_{b}'])
            assert torch.equal(index, golden[f'match_gt_{layer}_{b}'])


@pytest.mark.parametrize('name', ['matching', 'mask_matching', 'assignment', 'assignment_square'])
def test_contenders_agree(name):
    report = measure(load_cases()[name], 'small', torch.device('cpu'), rounds=1)
    contenders = {entry['name']: entry for entry in report['contenders']}
    assert contenders['ours']['samples']['forward']
    for other in set(contenders) - {'ours'}:
        assert contenders[other]['skipped'] or contenders[other]['difference']['agrees']
