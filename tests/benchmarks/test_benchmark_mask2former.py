"""The heads that the benchmark compares compute the same losses; at random points about the same."""

import sys

import pytest
import torch

from mmplugins.functional.masks.product import mask_product
from tests.locations import ROOT

pytest.importorskip('mmdet', reason="the heads are mmdet's")
sys.path.insert(0, str(ROOT / 'benchmarks'))

from benchmark_cases import load_cases
from benchmark_cases._measure import measure
from benchmark_cases.mask2former import scene


def test_maskformer_heads_agree():
    report = measure(load_cases()['maskformer_head'], 'small', torch.device('cpu'), rounds=1)
    contenders = {entry['name']: entry for entry in report['contenders']}
    assert contenders['mmdet']['difference']['agrees']
    assert contenders['mmdet']['memory_ratio']['forward+backward'] > 5


@pytest.mark.slow
@pytest.mark.parametrize(('case', 'gradient'), [('mask2former_head', 0.05), ('mask2former_product', 0.15)])
def test_mask2former_heads_agree_up_to_the_points(case, gradient):
    report = measure(load_cases()[case], 'small', torch.device('cpu'), rounds=1)
    contenders = {entry['name']: entry for entry in report['contenders']}
    assert contenders['mmdet']['difference']['value'] < 0.01
    assert contenders['mmdet']['difference']['gradient'] < gradient
    assert contenders['mmdet']['memory_ratio']['forward+backward'] > 1.5


def test_a_crowd():
    case = load_cases()['mask2former_crowd']
    run = case.contenders['ours'].build(**case.make_inputs(torch.device('cpu'), **case.sizes['small']))
    assert torch.isfinite(run())


def test_the_product_makes_masks_that_are_mostly_found():
    case = load_cases()['mask2former_product']
    inputs = case.make_inputs(torch.device('cpu'), **case.sizes['small'])
    masks = mask_product(inputs['embeds'][0], inputs['features'])
    for found, bitmap in zip(masks, inputs['bitmaps'], strict=True):
        at_logits = torch.from_numpy(bitmap)[:, 2::4, 2::4].bool()
        assert ((found[:5] > 0) == at_logits).float().mean() > 0.9


def test_objects_are_mostly_found():
    inputs = scene(torch.device('cpu'), 1, 2, 20, 5, 32, 128)
    for found, bitmap in zip(inputs['masks'][0], inputs['bitmaps'], strict=True):
        assert 0.02 < bitmap.mean() < 0.4
        at_logits = torch.from_numpy(bitmap)[:, 2::4, 2::4].bool()
        assert ((found[:5] > 0) == at_logits).float().mean() > 0.9
