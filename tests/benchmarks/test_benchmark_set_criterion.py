"""The released formula that the benchmark compares with is the released one; the cases' contenders agree."""

import sys

import pytest
import torch

from mmplugins.hosts import problem_with
from mmplugins.testing import assert_relative, load_golden
from tests.locations import ROOT, golden_files

sys.path.insert(0, str(ROOT / 'benchmarks'))

from benchmark_cases import load_cases
from benchmark_cases._measure import gradients_of
from benchmark_cases.set_criterion import detections, released_set_loss


@pytest.mark.parametrize('path', [param for param in golden_files('detr_[0-9].npz') if param.id != 'detr_3'])
def test_released_formula(path):
    golden = load_golden(path)
    images = range(golden['logits'].shape[1])
    labels = [golden[f'gt_labels{image}'].view(-1) for image in images]
    truth = [golden[f'gt_boxes{image}'].view(-1, 4) for image in images]
    value = released_set_loss(golden['logits'], golden['boxes'], labels, truth)
    assert_relative(value, golden['total'], 1e-5, 'total')


def test_scene_is_that_of_a_trained_network():
    inputs = detections(torch.device('cpu'), 2, 3, 30, 10, 5)
    logits, boxes = inputs['logits'], inputs['boxes']
    assert logits.requires_grad
    assert boxes.requires_grad
    assert (boxes > 0).all()
    found = logits[:, :, :8].argmax(-1) == torch.stack(inputs['labels'])[:, :8]
    assert found.float().mean() > 0.8
    assert (logits[:, :, 8:].argmax(-1) == 5).float().mean() > 0.8


@pytest.mark.parametrize('name', ['set_criterion', 'detr_head'])
def test_contenders_agree(name):
    case = load_cases()[name]
    if case.contenders['ours'].problem:
        pytest.skip(problem_with('mmdet'))
    inputs = case.make_inputs(torch.device('cpu'), **case.sizes['small'])
    leaves = [inputs['logits'], inputs['boxes']]
    results = {}
    for contender in case.contenders.values():
        value = contender.build(**inputs)()
        results[contender.name] = [value, *gradients_of(value, leaves)]
    assert len(results) == 2
    for values in results.values():
        for value, expected in zip(values, results['ours'], strict=True):
            assert_relative(value, expected.detach(), 1e-5, name)
