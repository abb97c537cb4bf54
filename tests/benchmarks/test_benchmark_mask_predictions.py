"""The scene is that of a trained network; the contenders agree."""

import sys

import pytest
import torch

from mmplugins.testing import assert_relative
from tests.locations import ROOT

sys.path.insert(0, str(ROOT / 'benchmarks'))

from benchmark_cases import load_cases
from benchmark_cases._measure import tensors_in
from benchmark_cases.mask_predictions import trained_queries

NAMES = [
    *('panoptic_prediction', 'instance_prediction', 'instance_prediction_rle', 'panoptic_instance_prediction'),
    *('semantic_prediction', 'semantic_labels'),
]


def test_scene_is_that_of_a_trained_network():
    logits, masks = trained_queries(20, 8, 32, 40)
    scores, labels = logits.softmax(-1).max(-1)
    sure = (labels < 133) & (scores > 0.8)
    assert sure.sum() >= 6
    shares = (masks > 0).float().mean((1, 2))
    assert (shares < 0.9).all()
    assert (shares[sure] > 0).all()


@pytest.mark.parametrize('name', NAMES)
def test_contenders_agree(name):
    case = load_cases()[name]
    problems = [contender.problem for contender in case.contenders.values() if contender.problem]
    if problems:
        pytest.skip(problems[0])
    inputs = case.make_inputs(torch.device('cpu'), **case.sizes['small'])
    found = {name: list(tensors_in(one.build(**inputs)())) for name, one in case.contenders.items()}
    assert len(found) == 2
    for values in found.values():
        for value, expected in zip(values, found['ours'], strict=True):
            assert_relative(value.float(), expected.float(), case.tolerance, name)
