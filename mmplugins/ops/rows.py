"""Weighted sums of rows of a table, and their gradients: what sampling with bilinear weights comes down to.

Letters: R rows of the table, D their width, N sums, T terms of each.

On every device the work is one fused gather (``embedding_bag``). The gradient of the table is the same with the roles
exchanged: the terms are sorted by row, so that each row is a sum of its own and nothing is added atomically. On the CPU
it is SciPy's product of a sparse matrix, which needs no sorting.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

try:
    from scipy import sparse
except ImportError:
    sparse = None

# Terms worked on at once: on the CPU their arrays stay near the cache, elsewhere one launch does more.
_CPU_TERMS, _TERMS = 1 << 18, 1 << 23
_CPU_VALUES, _VALUES = 1 << 17, 1 << 26  # the same for gathered rows, in numbers


def terms_at_once(device: torch.device) -> int:
    """Returns how many terms callers should hand over at once on a device."""
    return _CPU_TERMS if device.type == 'cpu' else _TERMS


def sum_rows(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Sums rows of a table with weights.

    Args:
        table: (R, D), float32 or float64.
        index: (N, T), int32 or int64: row of each term, 0 to R - 1, also where the weight is 0.
        weight: (N, T), of the table's dtype.

    Returns:
        (N, D): ``sum_t weight[n, t] * table[index[n, t]]``.
    """
    if 0 in index.shape or table.shape[1] == 0:
        return table.new_zeros(index.shape[0], table.shape[1])
    return F.embedding_bag(index, table, per_sample_weights=weight, mode='sum')


def add_table_grad(total: Tensor, grad: Tensor, index: Tensor, weight: Tensor) -> None:
    """Adds the gradient of ``sum_rows`` with respect to the table.

    Args:
        total: (R, D); changed in place.
        grad: (N, D), gradient of the sums.
        index: (N, T), as for ``sum_rows``.
        weight: (N, T), as for ``sum_rows``.
    """
    if index.numel() == 0 or grad.shape[1] == 0:
        return
    if grad.device.type == 'cpu' and sparse is not None:
        _add_by_sparse_product(total, grad, index.flatten(), weight)
    else:
        _add_by_sorting(total, grad, index.flatten(), weight)


def _add_by_sparse_product(total: Tensor, grad: Tensor, row: Tensor, weight: Tensor) -> None:
    """Adds the product of the weights, as a sparse matrix (N, R), transposed, and the gradient, (N, D)."""
    rows = None
    if 4 * total.shape[0] > len(row):  # most rows have no term: leave them out of the product
        hit = torch.zeros(total.shape[0], dtype=torch.bool).index_fill_(0, row.long(), True)
        rows = hit.nonzero()[:, 0]
        row = (hit.cumsum(0, dtype=torch.int32) - 1)[row]
    starts = np.arange(0, len(row) + 1, weight.shape[1], dtype=np.int32)
    entries = weight.contiguous().flatten().numpy(), row.int().numpy(), starts
    matrix = sparse.csr_matrix(entries, (len(weight), total.shape[0] if rows is None else len(rows)))
    product = torch.from_numpy(matrix.T @ grad.contiguous().numpy())
    if rows is None:
        total += product
    else:
        total.index_add_(0, rows, product)


def _add_by_sorting(total: Tensor, grad: Tensor, row: Tensor, weight: Tensor) -> None:
    """Sorts the terms by row, so that each row is one sum."""
    dtype = torch.int32 if max(total.shape[0], len(row)) < 2**31 else torch.int64  # half as much to sort
    rows, order = row.to(dtype).sort(stable=True)
    rows, counts = torch.unique_consecutive(rows, return_counts=True)
    sums = torch.arange(len(weight), device=row.device)[:, None].expand_as(weight).flatten()[order]
    starts = counts.cumsum(0) - counts
    grads = F.embedding_bag(sums, grad, starts, per_sample_weights=weight.flatten()[order], mode='sum')
    total.index_add_(0, rows, grads)


def sum_rows_weight_grad(grad: Tensor, table: Tensor, index: Tensor) -> Tensor:
    """Computes the gradient of ``sum_rows`` with respect to the weights.

    Args:
        grad: (N, D), gradient of the sums.
        table: (R, D), as for ``sum_rows``.
        index: (N, T), as for ``sum_rows``.

    Returns:
        (N, T): ``dot(grad[n], table[index[n, t]])``.
    """
    sums, terms = index.shape
    out = grad.new_zeros(sums, terms)
    step = max(1, (_CPU_VALUES if grad.device.type == 'cpu' else _VALUES) // max(1, terms * grad.shape[1]))
    for start in range(0, sums, step):
        block = slice(start, start + step)
        rows = table.index_select(0, index[block].flatten()).view(*index[block].shape, table.shape[1])
        out[block] = rows.mul_(grad[block, None]).sum(-1)
    return out
