"""Multi-scale deformable attention: against mmcv's path of PyTorch operators, which nothing is compiled for."""

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttention,
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)

from mmplugins.ops import rows
from mmplugins.ops.ms_deform_attn import multi_scale_deformable_attn
from tests.ops.plain import random

SHAPES = torch.tensor([[5, 7], [3, 4], [1, 1]])


def inputs(dtype=torch.float64, images=2, queries=6, heads=3, channels=4, points=2):
    value = random(images, 48, heads, channels, dtype=dtype)
    generator = torch.Generator().manual_seed(2)
    locations = torch.rand(images, queries, heads, 3, points, 2, generator=generator, dtype=torch.float64) * 1.6 - 0.3
    weights = random(images, queries, heads, 3 * points, seed=3).softmax(-1).view(locations.shape[:-1])
    return [value, locations.to(dtype), weights.to(dtype)]


def run(function, value, locations, weights):
    leaves = [each.detach().requires_grad_() for each in (value, locations, weights)]
    output = function(*leaves)
    grad = random(*output.shape, seed=4).to(output)
    return [output.detach(), *torch.autograd.grad((output * grad).sum(), leaves)]


def ours(value, locations, weights):
    return multi_scale_deformable_attn(value, SHAPES, locations, weights)


def mmcvs(value, locations, weights):
    return multi_scale_deformable_attn_pytorch(value, SHAPES, locations, weights)


def test_values_and_gradients():
    torch.testing.assert_close(run(ours, *inputs()), run(mmcvs, *inputs()))


@pytest.mark.parametrize('terms', [1, 500, 2000])
def test_block_by_block(monkeypatch, terms):
    expected = run(ours, *inputs(queries=60))
    monkeypatch.setattr(rows, '_CPU_TERMS', terms)
    monkeypatch.setattr(rows, '_CPU_VALUES', terms)
    torch.testing.assert_close(run(ours, *inputs(queries=60)), expected)


def test_gradcheck():
    value, locations, weights = (each.requires_grad_() for each in inputs(images=1, queries=2, heads=2, channels=2))
    assert torch.autograd.gradcheck(ours, (value, locations, weights))


def test_through_the_function_that_mmcv_runs_on_cuda(plain):
    starts = torch.tensor([0, 35, 47])

    def function(value, locations, weights):
        return MultiScaleDeformableAttnFunction.apply(value, SHAPES, starts, locations, weights, 64)

    torch.testing.assert_close(run(function, *inputs()), run(mmcvs, *inputs()))


def test_a_point_a_whole_pixel_outside_has_no_gradient():
    value, locations, weights = inputs(images=1, queries=1, heads=1, points=1)
    locations[:] = 0.5
    locations[0, 0, 0, 0, 0] = torch.tensor([-0.5 / 7, 0.5])  # its right corners are the first column, with weight 0
    assert not run(ours, value, locations, weights)[2][0, 0, 0, 0].any()
    locations[0, 0, 0, 0, 0] = torch.tensor([-0.49 / 7, 0.5])
    assert run(ours, value, locations, weights)[2][0, 0, 0, 0].any()


@pytest.mark.parametrize('wrong', [float('nan'), float('inf'), -float('inf'), 1e30])
def test_points_that_are_nowhere_sample_zeros(wrong):
    value, locations, weights = inputs(images=1, queries=2, heads=1, points=1)
    expected = run(ours, value, locations, weights)
    locations[0, 0] = wrong
    output, grad_value, _, grad_weights = run(ours, value, locations, weights)
    assert not output[0, 0].any()
    assert grad_value.isfinite().all()
    assert not grad_weights[0, 0].any()
    torch.testing.assert_close(output[0, 1], expected[0][0, 1])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_low_precision(dtype):
    values = run(ours, *inputs(dtype))
    assert all(value.dtype == dtype for value in values)
    expected = run(mmcvs, *(each.float() for each in inputs(dtype)))
    torch.testing.assert_close([v.float() for v in values], expected, rtol=2e-2, atol=2e-2)


def test_nothing():
    value, locations, weights = inputs(queries=0)
    output, *gradients = run(ours, value, locations, weights)
    assert output.shape == (2, 0, 12)
    assert not gradients[0].any()


def test_the_module_of_mmcv_with_ours_in_place(monkeypatch):
    module = MultiScaleDeformableAttention(embed_dims=8, num_heads=2, num_levels=3, batch_first=True, dropout=0.0)
    torch.nn.init.normal_(module.sampling_offsets.weight)
    query, value, reference = random(2, 6, 8).float(), random(2, 48, 8, seed=1).float(), torch.rand(2, 6, 3, 2)
    call = dict(value=value, reference_points=reference, spatial_shapes=SHAPES, level_start_index=None)
    expected = module(query, **call)
    place = 'mmcv.ops.multi_scale_deform_attn.multi_scale_deformable_attn_pytorch'
    monkeypatch.setattr(place, multi_scale_deformable_attn)
    torch.testing.assert_close(module(query, **call), expected)
