"""Weighted sums of rows: against a dense matrix, and both ways to add the gradient of the table."""

import pytest
import torch

from mmplugins.ops import rows
from mmplugins.ops.rows import add_table_grad, sum_rows, sum_rows_weight_grad
from tests.ops.plain import random


def dense(index, weight, count):
    """The matrix whose product with the table is the sums."""
    matrix = torch.zeros(len(index), count, dtype=weight.dtype)
    for n, (places, weights) in enumerate(zip(index.tolist(), weight, strict=True)):
        for place, value in zip(places, weights, strict=True):
            matrix[n, place] += value
    return matrix


@pytest.mark.parametrize('dtype', [torch.int32, torch.int64])
@pytest.mark.parametrize('count', [7, 1000])  # most rows of a large table have no term
def test_sums_and_gradients(monkeypatch, dtype, count):
    index = torch.randint(count, (6, 5), generator=torch.Generator().manual_seed(0)).to(dtype)
    index[0] = index[0, 0]  # a row more than once in a sum
    table, weight, grad = random(count, 3), random(6, 5, seed=1), random(6, 3, seed=2)
    matrix = dense(index, weight, count)
    torch.testing.assert_close(sum_rows(table, index, weight), matrix @ table)

    start = random(count, 3, seed=3)
    for sparse in (rows.sparse, None):
        monkeypatch.setattr(rows, 'sparse', sparse)
        total = start.clone()
        add_table_grad(total, grad, index, weight)
        torch.testing.assert_close(total, start + matrix.T @ grad)

    expected = (grad @ table.T).gather(1, index.long())
    for values in (1 << 20, 1):
        monkeypatch.setattr(rows, '_CPU_VALUES', values)
        torch.testing.assert_close(sum_rows_weight_grad(grad, table, index), expected)


@pytest.mark.parametrize(('sums', 'terms', 'width'), [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_nothing(sums, terms, width):
    index, weight = torch.zeros(sums, terms, dtype=torch.int64), torch.zeros(sums, terms)
    table, grad = torch.ones(5, width), torch.ones(sums, width)
    assert torch.equal(sum_rows(table, index, weight), torch.zeros(sums, width))
    total = torch.ones(5, width)
    add_table_grad(total, grad, index, weight)
    assert torch.equal(total, torch.ones(5, width))
    assert sum_rows_weight_grad(grad, table, index).shape == (sums, terms)
