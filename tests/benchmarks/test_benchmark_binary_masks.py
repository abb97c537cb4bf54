"""The released formulas that the benchmark compares with are the released ones."""

import sys

import pytest

from mmplugins.testing import assert_relative, load_golden
from tests.locations import ROOT, golden_files

sys.path.insert(0, str(ROOT / 'benchmarks'))

from benchmark_cases import load_cases
from benchmark_cases.binary_masks import objects, released_structure_loss


@pytest.mark.parametrize('path', golden_files('pfnet_losses_*.npz'))
def test_released_formulas(path):
    golden = load_golden(path)
    logits, mask = golden['logits'].requires_grad_(), golden['mask']
    value = released_structure_loss(logits, mask)
    value.backward()
    assert_relative(value, golden['structure_released'], 1e-5, 'structure loss')
    assert_relative(logits.grad, golden['grad_structure_released'], 1e-5, 'its gradient')
    released = load_cases()['bce_iou'].contenders['released'].build(logits, mask)
    assert_relative(released(), golden['bce_iou'], 1e-5, 'BCE + IoU')


def test_objects_are_mostly_found():
    inputs = objects('cpu', (4, 1, 128, 128))
    logits, mask = inputs['logits'], inputs['mask']
    assert logits.requires_grad
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert 0.1 < mask.mean() < 0.6
    assert ((logits > 0) == (mask > 0)).float().mean() > 0.8
