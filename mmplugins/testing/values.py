"""Comparison of tensors by the relative error of the whole, as the parity claims are stated."""

import torch
from torch import Tensor


def relative_error(actual: Tensor, expected: Tensor | float) -> float:
    """Largest absolute difference over the largest absolute expected value.

    Args:
        actual: Any shape.
        expected: Same shape, or a number.

    Returns:
        The error; the absolute difference where everything expected is 0. NaN if either holds a NaN.
    """
    expected = torch.as_tensor(expected, dtype=torch.float64)
    actual = actual.detach().cpu().double()
    if actual.shape != expected.shape:
        raise ValueError(f'shapes differ: got {tuple(actual.shape)}, expected {tuple(expected.shape)}')
    if actual.numel() == 0:
        return 0.0
    scale = expected.abs().max()
    difference = (actual - expected).abs().max()
    return float(difference / scale if scale > 0 else difference)


def assert_relative(actual: Tensor, expected: Tensor | float, bound: float, what: str = 'value') -> None:
    """Raises AssertionError if the relative error is above a bound, or NaN."""
    error = relative_error(actual, expected)
    if not error <= bound:
        raise AssertionError(f'{what}: relative error {error:.3g} is above {bound:.3g}')
