"""The contenders of the mask losses compute what they say."""

import sys

import pytest
import torch

from mmplugins.hosts import problem_with
from mmplugins.testing import assert_relative, load_golden
from tests.locations import ROOT, golden_files

sys.path.insert(0, str(ROOT / 'benchmarks'))

from benchmark_cases import load_cases
from benchmark_cases._measure import gradients_of, relative_difference, tensors_in
from benchmark_cases.mask_losses import scene

CPU = torch.device('cpu')


@pytest.mark.parametrize('name', ['mask_points', 'dense_mask_loss'])
def test_contenders_agree(name):
    case = load_cases()[name]
    inputs = case.make_inputs(CPU, **case.sizes['small'])
    leaves = [tensor for tensor in tensors_in(inputs) if tensor.requires_grad]
    results = {}
    for key, contender in case.contenders.items():
        if not contender.problem:
            values = list(tensors_in(contender.build(**inputs)()))
            results[key] = [value.detach() for value in values], gradients_of(values, leaves)
    assert len(results) >= 2
    for values, grads in results.values():
        assert relative_difference(values, results['ours'][0]) < 1e-5
        assert not grads or relative_difference(grads, results['ours'][1]) < 1e-5


@pytest.mark.skipif(bool(problem_with('mmdet')), reason='needs mmdet')
def test_random_points_give_about_the_same_loss():
    case = load_cases()['point_mask_loss']
    inputs = case.make_inputs(CPU, **{**case.sizes['small'], 'points': 4000})
    torch.manual_seed(0)
    ours, theirs = (case.contenders[name].build(**inputs)() for name in ('ours', 'mmdet'))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0)


@pytest.mark.parametrize('path', golden_files('maskformer_1.npz'))
def test_released_formula(path):
    golden = load_golden(path)
    masks = [golden[f'gt_masks{image}'] for image in range(golden['mask_logits'].shape[1])]
    matches = [
        [(golden[f'match_query_{layer}_{image}'], golden[f'match_gt_{layer}_{image}']) for image in range(len(masks))]
        for layer in range(len(golden['mask_logits']))
    ]
    run = load_cases()['dense_mask_loss'].contenders['released'].build(list(golden['mask_logits']), masks, matches)
    for name, values in zip(('loss_mask', 'loss_dice'), run(), strict=True):
        assert_relative(values[-1], golden[f'out.{name}'], 1e-5, name)


def test_the_scene_is_mostly_found():
    inputs = scene(CPU, 2, 2, 10, 4, 32)
    assert inputs['masks'][0].shape == (4, 128, 128)
    for layer, pairs in zip(inputs['logits'], inputs['matches'], strict=True):
        for image, (query, truth) in enumerate(pairs):
            found = layer[image, query] > 0
            target = inputs['masks'][image][truth, ::4, ::4]
            assert (found == target).float().mean() > 0.9
