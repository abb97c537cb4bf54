import pytest
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from mmplugins.engine.schedulers import ShiftedPolyLR
from tests.engine.schedulers.schedules import optimizer, rates, resumed


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
    expected, seen = resumed(lambda optim: ShiftedPolyLR(optim, power=0.9, end=9, by_epoch=False), 9, 4)
    assert seen == expected
