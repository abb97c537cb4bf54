import itertools
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from mmplugins.functional.sets import matching
from mmplugins.functional.sets.boxes import cxcywh_to_xyxy, pairwise_overlap
from mmplugins.functional.sets.matching import find_invalid, lapx_solver, replace_invalid, solve_block, to_host
from mmplugins.testing import load_golden
from tests.locations import golden_files

NAN, INF = float('nan'), float('inf')


def example(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def least_cost(cost):
    """Least total cost of min(Q, G) pairs, by trying all."""
    cost = cost if cost.shape[0] >= cost.shape[1] else cost.T
    queries, objects = cost.shape
    return min(
        sum(cost[q, g] for g, q in enumerate(chosen)) for chosen in itertools.permutations(range(queries), objects)
    )


# Solving


@pytest.fixture(scope='module', params=['SciPy', 'lapx'])
def solver(request):
    """Each solver in turn, whatever is installed."""
    if request.param == 'lapx' and lapx_solver() is None:
        pytest.skip('lapx 0.11.1 or later is not installed')
    with pytest.MonkeyPatch.context() as patch:
        if request.param == 'SciPy':
            patch.setattr(matching, 'lapx_solver', lambda: None)
        yield request.param


@settings(max_examples=60, deadline=None)
@given(queries=st.integers(0, 5), objects=st.integers(0, 5), seed=st.integers(0, 1000), ties=st.booleans())
def test_the_least_cost_is_found(solver, queries, objects, seed, ties):
    block = example(2, queries, objects, seed=seed).numpy()
    block = block.round() if ties else block
    pairs = solve_block(block)
    assert len(pairs) == 2
    for cost, (query, true) in zip(block, pairs, strict=True):
        assert query.dtype == true.dtype == torch.int64
        assert len(query) == len(true) == min(queries, objects)
        assert torch.equal(query, query.unique())  # ascending, each once
        assert len(true.unique()) == len(true)
        if min(queries, objects):
            assert cost[query, true].sum() == pytest.approx(least_cost(cost), abs=1e-5)


def test_matching_by_hand(solver):
    """Greedily query 0 would take object 1 at 1; 2 + 3 is less than 1 + 10."""
    query, true = solve_block(np.array([[[2.0, 1.0], [10.0, 3.0]]]))[0]
    assert (query.tolist(), true.tolist()) == ([0, 1], [0, 1])


def test_more_objects_than_queries_by_hand(solver):
    query, true = solve_block(np.array([[[5.0, 1.0, 2.0], [5.0, 1.0, 7.0]]]))[0]
    assert (query.tolist(), true.tolist()) == ([0, 1], [2, 1])


@pytest.mark.parametrize('path', golden_files('detr_[0-9].npz'))
def test_pairs_of_the_released_code(solver, path):
    """All layers of an image at once; the costs are DETR's own, from its boxes and logits."""
    golden = load_golden(path)
    for image, block in enumerate(detr_costs(golden)):
        for layer, (query, true) in enumerate(solve_block(block)):
            assert torch.equal(query, golden[f'match_query_{layer}_{image}'])
            assert torch.equal(true, golden[f'match_gt_{layer}_{image}'])


def detr_costs(golden):
    """Costs of each image, (L, Q, G)."""
    for image in range(golden['logits'].shape[1]):
        labels, true = golden[f'gt_labels{image}'], golden[f'gt_boxes{image}']
        layers = []
        for logits, boxes in zip(golden['logits'][:, image], golden['boxes'][:, image], strict=True):
            giou = pairwise_overlap(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(true))
            l1 = torch.cdist(boxes, true, p=1)
            layers.append(
                golden['cost_bbox'] * l1
                - golden['cost_class'] * logits.softmax(-1)[:, labels]
                - golden['cost_giou'] * giou
            )
        yield torch.stack(layers).numpy()


def fake_lapx(monkeypatch, error=None):
    """Puts a solver in lapx's place; returns the list of its calls."""
    calls = []

    def solve(costs, **settings):
        calls.append((costs.shape, settings))
        if error is not None:
            raise error
        return zip(*(linear_sum_assignment(cost) for cost in costs), strict=True)

    monkeypatch.setattr(matching, 'lapx_solver', lambda: solve)
    return calls


def test_lapx_gets_all_layers_at_once_in_one_thread(monkeypatch):
    calls = fake_lapx(monkeypatch)
    pairs = solve_block(example(3, 4, 2).numpy())
    settings = dict(extend_cost=True, return_cost=False, n_threads=1, precision='float64')
    assert calls == [((3, 4, 2), settings)]
    assert [query.shape for query, _ in pairs] == [(2,)] * 3


@pytest.mark.parametrize('shape', [(2, 0, 3), (2, 3, 0), (0, 3, 3), (0, 0, 0)])
def test_an_empty_block_goes_to_no_solver_of_lapx(monkeypatch, shape):
    calls = fake_lapx(monkeypatch)
    pairs = solve_block(np.zeros(shape))
    assert calls == []
    assert len(pairs) == shape[0]
    assert all(query.numel() == true.numel() == 0 and query.dtype == torch.int64 for query, true in pairs)


def test_what_lapx_refuses_scipy_solves_or_explains(monkeypatch):
    calls = fake_lapx(monkeypatch, ValueError('reduced costs overflow at batch index 0'))
    query, true = solve_block(np.array([[[2.0, 1.0], [10.0, 3.0]]]))[0]
    assert (query.tolist(), true.tolist()) == ([0, 1], [0, 1])
    with pytest.raises(ValueError, match='infeasible'):
        solve_block(np.full((1, 2, 2), INF))
    assert len(calls) == 2


@pytest.mark.parametrize('module', [None, SimpleNamespace(), SimpleNamespace(__version__='0.9.4', lapjvh_batch=1)])
def test_without_a_recent_lapx_scipy_solves(monkeypatch, module):
    monkeypatch.setitem(sys.modules, 'lap', module)
    lapx_solver.cache_clear()
    assert lapx_solver() is None
    lapx_solver.cache_clear()


# Copy


def test_blocks_come_to_the_host_as_they_are():
    blocks = [example(2, 3, 4), example(2, 3, 0), example(2, 0, 4), example(2, 5, 1)]
    for block, array in zip(blocks, to_host(blocks), strict=True):
        assert array.shape == tuple(block.shape)
        assert np.array_equal(array, block.numpy())
    assert to_host([]) == []


def test_blocks_with_a_gradient_come_detached():
    block = example(1, 2, 3).requires_grad_()
    assert np.array_equal(to_host([block])[0], block.detach().numpy())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_blocks_come_in_one_copy():
    blocks = [example(2, 3, 4), example(2, 3, 0), example(2, 5, 1)]
    on_device = [block.cuda() for block in blocks]
    with warnings.catch_warnings(record=True) as waits:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            arrays = to_host(on_device)
        finally:
            torch.cuda.set_sync_debug_mode('default')
    assert len([wait for wait in waits if 'synchroniz' in str(wait.message)]) == 1
    assert all(np.array_equal(array, block.numpy()) for array, block in zip(arrays, blocks, strict=True))


# Invalid costs


def test_invalid_costs_are_found():
    blocks = [example(3, 2, 2).numpy() for _ in range(3)]
    assert find_invalid(blocks) == []
    blocks[1][2, 0] = NAN
    blocks[1][0, 1, 1] = -INF
    blocks[2][1, 1, 0] = INF
    assert [tuple(found) for found in find_invalid(blocks)] == [(0, 1, 1, 4), (2, 1, 2, 4), (1, 2, 1, 4)]
    assert find_invalid([np.zeros((2, 3, 0)), np.zeros((2, 0, 1))]) == []


def test_finite_costs_are_not_replaced():
    cost = example(2, 3, 4)
    replaced, count = replace_invalid(cost)
    assert torch.equal(replaced, cost)
    assert count == 0


def test_replacement_by_hand():
    """Finite costs from -1 to 3 and 2 pairs: 3 + 2 * 4 + 1 = 12."""
    cost = torch.tensor([[[-1.0, NAN], [INF, 3.0], [0.0, -INF]]])
    replaced, count = replace_invalid(cost)
    assert replaced.tolist() == [[[-1, 12], [12, 3], [0, 12]]]
    assert count == 3


@pytest.mark.parametrize('shape', [(2, 0, 3), (2, 3, 0), (0, 3, 3)])
def test_nothing_to_replace(shape):
    replaced, count = replace_invalid(torch.zeros(shape))
    assert replaced.shape == shape
    assert count == 0


def test_nothing_but_invalid_costs():
    replaced, count = replace_invalid(torch.full((2, 3, 2), NAN))
    assert torch.isfinite(replaced).all()
    assert count == 12


@settings(max_examples=100, deadline=None)
@given(data=st.data(), queries=st.integers(1, 4), objects=st.integers(1, 4))
def test_invalid_pairs_are_the_last_resort(data, queries, objects):
    """As few of them as can be, and among the rest the least cost; checked by trying every matching."""
    value = st.sampled_from([0.0, 1.0, 2.5, -3.0, NAN, INF, -INF])
    cost = torch.tensor(data.draw(st.lists(value, min_size=queries * objects, max_size=queries * objects)))
    cost = cost.view(1, queries, objects)
    replaced, count = replace_invalid(cost)
    assert count == (~cost.isfinite()).sum()
    query, true = solve_block(replaced.numpy())[0]
    found = cost[0, query, true]
    wide = cost[0] if queries >= objects else cost[0].T
    every = []
    for chosen in itertools.permutations(range(wide.shape[0]), wide.shape[1]):
        values = wide[list(chosen), range(wide.shape[1])]
        every.append((int((~values.isfinite()).sum()), float(values[values.isfinite()].sum())))
    assert (int((~found.isfinite()).sum()), float(found[found.isfinite()].sum())) == min(every)


def test_huge_costs_stay_finite():
    replaced, _ = replace_invalid(torch.tensor([[[3e38, NAN], [-3e38, 0.0]]]))
    assert torch.isfinite(replaced).all()
    assert replaced[0, 0, 1] > replaced[0, 0, 0]
