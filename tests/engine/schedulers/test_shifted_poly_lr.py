import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from mmplugins.engine.schedulers import ShiftedPolyLR


def optimizer():
    parameters = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    return torch.optim.SGD([dict(params=parameters[:1], lr=2.0), dict(params=parameters[1:])], lr=1.0)


def rates(scheduler, optim, steps):
    seen = []
    for _ in range(steps):
        seen.append([group['lr'] for group in optim.param_groups])
        optim.step()
        scheduler.step()
    return seen


def test_by_hand():
    """Four steps, power 2: (3/4)^2, (2/4)^2, (1/4)^2, 0; then the last rate stays."""
    optim = optimizer()
    seen = rates(ShiftedPolyLR(optim, power=2, end=4, by_epoch=False), optim, 6)
    expected = [0.5625, 0.25, 0.0625, 0, 0, 0]
    assert [rate for _, rate in seen] == pytest.approx(expected)
    assert [rate for rate, _ in seen] == pytest.approx([2 * rate for rate in expected])


def test_least_rate_and_begin():
    optim = optimizer()
    seen = rates(ShiftedPolyLR(optim, power=1, begin=2, end=6, eta_min=0.2, by_epoch=False), optim, 7)
    assert [rate for _, rate in seen] == pytest.approx([1, 1, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_epochs_become_iterations():
    optim = OptimWrapper(optimizer())
    config = dict(type='mmplugins.ShiftedPolyLR', power=0.9, end=3, by_epoch=True, convert_to_iter_based=True)
    scheduler = PARAM_SCHEDULERS.build(config, default_args=dict(optimizer=optim, epoch_length=4))
    assert not scheduler.by_epoch
    assert [rate for _, rate in rates(scheduler, optim.optimizer, 12)] == pytest.approx(
        [(1 - (i + 1) / 12) ** 0.9 for i in range(12)]
    )


def test_resumed_run_goes_on():
    optim = optimizer()
    scheduler = ShiftedPolyLR(optim, power=0.9, end=9, by_epoch=False)
    whole = rates(scheduler, optim, 9)
    first = optimizer()
    before = ShiftedPolyLR(first, power=0.9, end=9, by_epoch=False)
    rates(before, first, 4)
    second = optimizer()
    after = ShiftedPolyLR(second, power=0.9, end=9, by_epoch=False)
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    assert rates(after, second, 5) == whole[4:]
