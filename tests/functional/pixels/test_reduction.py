import pytest
import torch

from mmplugins.functional.pixels.reduction import check_reduction, reduce_loss


def test_values():
    loss = torch.tensor([1.0, 2.0, 6.0])
    assert reduce_loss(loss, 'none', 3) is loss
    assert reduce_loss(loss, 'sum', 3) == 9
    assert reduce_loss(loss, 'mean', 3) == 3
    assert reduce_loss(loss, 'mean', torch.tensor(2)) == 4.5
    assert float(reduce_loss(loss, 'mean', 3, avg_factor=9.0)) == pytest.approx(1)


def test_nothing_counted_is_zero_and_attached():
    loss = torch.zeros(3, requires_grad=True)
    value = reduce_loss(loss, 'mean', 0)
    assert value == 0
    assert value.requires_grad


def test_errors():
    with pytest.raises(ValueError, match=r"must be one of \('none', 'mean', 'sum'\), got 'max'; pass 'mean'"):
        check_reduction('max')
    with pytest.raises(ValueError, match="cannot be used with reduction 'sum', drop one of them"):
        reduce_loss(torch.zeros(3), 'sum', 3, avg_factor=2)
