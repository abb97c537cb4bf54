import pytest
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from mmplugins.engine.schedulers import WarmupPolyLR
from tests.engine.schedulers.schedules import optimizer, rates, resumed


def test_by_hand():
    """Two steps of warm-up from 0.2 to 1; then four of decay, power 2: 1, (4/5)^2, (3/5)^2, (2/5)^2 of the way down."""
    optim = optimizer()
    scheduler = WarmupPolyLR(optim, warmup=2, power=2, eta_min=0.2, end=6)
    seen = rates(scheduler, optim, 6)
    shares = [0, 0.5, 1, 0.64, 0.36, 0.16]
    assert [rate for _, rate in seen] == pytest.approx([0.2 + 0.8 * share for share in shares])
    assert [rate for rate, _ in seen] == pytest.approx([0.2 + 1.8 * share for share in shares])


def test_encoder_of_aot():
    """The distance from the least rate is a tenth of the others', at every step."""
    optim = optimizer()
    low, rate = 2e-5, 2e-4
    optim.param_groups[0]['lr'], optim.param_groups[1]['lr'] = 0.19 * rate, rate
    seen = rates(WarmupPolyLR(optim, warmup=5, power=0.9, eta_min=low, end=100), optim, 100)
    assert [encoder - low for encoder, _ in seen] == pytest.approx([0.1 * (other - low) for _, other in seen])
    assert max(other for _, other in seen) == pytest.approx(rate)
    assert seen[0] == pytest.approx([low, low])


def test_without_warmup_it_is_a_poly():
    optim = optimizer()
    seen = rates(WarmupPolyLR(optim, warmup=0, power=1, eta_min=0, end=3), optim, 3)
    assert [rate for _, rate in seen] == pytest.approx([1, 0.75, 0.5])


def test_from_a_config():
    optim = OptimWrapper(optimizer())
    config = dict(type='mmplugins.WarmupPolyLR', warmup=1, power=1, end=3)
    scheduler = PARAM_SCHEDULERS.build(config, default_args=dict(optimizer=optim))
    assert not scheduler.by_epoch
    assert [rate for _, rate in rates(scheduler, optim.optimizer, 3)] == pytest.approx([0, 1, 2 / 3])


def test_resumed_run_goes_on():
    def make(optim):
        return WarmupPolyLR(optim, warmup=3, power=0.9, eta_min=0.1, end=9)

    for stop in (2, 5):
        expected, seen = resumed(make, 9, stop)
        assert seen == expected


@pytest.mark.parametrize('warmup', [-1, 6, 7])
def test_warmup_out_of_range(warmup):
    with pytest.raises(ValueError, match=f'below end - begin, 6, got {warmup}'):
        WarmupPolyLR(optimizer(), warmup=warmup, end=6)


def test_epochs_are_refused():
    with pytest.raises(ValueError, match='WarmupPolyLR counts iterations: set by_epoch=False'):
        WarmupPolyLR(optimizer(), warmup=1, end=3, by_epoch=True)
