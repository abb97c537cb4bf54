"""One-to-one matching of queries with objects, for all decoder layers of all images at once.

Papers: DETR (ECCV 2020) and what followed it. Released code: DETR's models/matcher.py, which solves one layer after the
other, each after a copy of costs between all images.

1. Each image has a block of costs (L, Q, G). All blocks come to the host in one copy.
2. Non-finite costs are found there; it needs no further copy.
3. Each layer of each image is a rectangular assignment problem: all layers of an image in one call of lapx where it
   is installed (``pip install lapx``), one after the other by SciPy otherwise. Both find a least total cost.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

LAPX = '0.11.1'  # takes rectangles as they are; older ones pad them to squares


class InvalidBlock(NamedTuple):
    """Where costs were found that are not finite.

    Attributes:
        layer: Index of the layer.
        image: Index of the image.
        count: Number of entries that are not finite.
        size: Number of entries of the layer's block.
    """

    layer: int
    image: int
    count: int
    size: int


def to_host(blocks: Sequence[Tensor]) -> list[np.ndarray]:
    """Brings the cost blocks of all images to the host in one copy.

    Args:
        blocks: Costs (L, Q_b, G_b) of each image, on one device and of one dtype.

    Returns:
        The same as arrays; on the CPU they share memory with ``blocks``.
    """
    blocks = [block.detach() for block in blocks]
    if not blocks or blocks[0].device.type == 'cpu':
        return [block.numpy() for block in blocks]
    packed = torch.cat([block.flatten() for block in blocks]).cpu().numpy()
    ends = np.cumsum([block.numel() for block in blocks])[:-1]
    return [part.reshape(block.shape) for part, block in zip(np.split(packed, ends), blocks, strict=True)]


def find_invalid(blocks: Sequence[np.ndarray]) -> list[InvalidBlock]:
    """Finds layers with a cost that is not finite.

    Args:
        blocks: Costs (L, Q_b, G_b) of each image.

    Returns:
        One entry for each layer of each image that has any, by image, then layer.
    """
    found = []
    for image, block in enumerate(blocks):
        valid = np.isfinite(block)
        if valid.all():
            continue
        counts = (~valid).sum((1, 2))  # (L,)
        found.extend(
            InvalidBlock(layer, image, int(count), valid[layer].size) for layer, count in enumerate(counts) if count
        )
    return found


def replace_invalid(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Replaces costs that are not finite by a finite one above all others, without a host sync.

    A layer's replacement is its largest finite cost, plus the range of its finite costs times the number of pairs,
    plus 1: the assignment then has as few replaced pairs as possible, and among those the least total cost.

    Args:
        cost: Costs, shape (L, Q, G).

    Returns:
        Finite costs (L, Q, G) and the number of entries that were replaced, a scalar of the same dtype.
    """
    valid = cost.isfinite()
    count = (~valid).sum().to(cost.dtype)
    if cost.numel() == 0:
        return cost, count
    largest = torch.finfo(cost.dtype).max ** 0.5  # sums of several stay far from overflow
    cost = torch.where(valid, cost.clamp(-largest, largest), torch.nan)
    high = torch.where(valid, cost, -largest).amax((1, 2), keepdim=True)  # (L, 1, 1)
    low = torch.where(valid, cost, largest).amin((1, 2), keepdim=True)
    spread = (high - low).clamp(min=0)  # negative where nothing is valid
    replacement = high.clamp(min=0) + min(cost.shape[1:]) * spread + 1
    return torch.where(valid, cost, replacement), count


def solve_block(block: np.ndarray) -> list[tuple[Tensor, Tensor]]:
    """Solves the assignment of every layer of one image, by lapx where it is installed, else by SciPy.

    Where two assignments cost the same, the two may choose differently; in float64, so that no other choice is made.

    Args:
        block: Finite costs (L, Q, G).

    Returns:
        For each layer the query and the object index of min(Q, G) pairs, int64, ascending in the query.

    Raises:
        ValueError: Costs are infinite and leave no assignment, or are NaN (SciPy's; lapx does not look).
    """
    solve = lapx_solver() if block.size else None
    if solve is not None:
        try:  # one thread: a pool of lapx's would not survive the fork of a data loader's workers
            found = solve(block, extend_cost=True, return_cost=False, n_threads=1, precision='float64')
            solved = zip(*found, strict=True)
        except ValueError:  # no assignment, or costs too large to be summed: SciPy solves it, or says why it cannot
            solve = None
    if solve is None:
        solved = (linear_sum_assignment(cost) for cost in block)
    return [tuple(torch.from_numpy(index) for index in pair) for pair in solved]


@cache
def lapx_solver() -> Callable | None:
    """Returns lapx's ``lapjvh_batch``, or None if lapx is not installed, older than ``LAPX``, or does not import."""
    try:
        import lap
        from packaging.version import Version  # only here: it is not needed without lapx

        return lap.lapjvh_batch if Version(lap.__version__) >= Version(LAPX) else None
    except (ImportError, AttributeError, ValueError):  # 'lap' is the module of another distribution too
        return None
