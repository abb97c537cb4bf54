import pytest
import torch

from mmplugins.hosts import problem_with
from tests.reliability.memory import curve, grows

if problem_with('mmseg'):
    pytest.skip(str(problem_with('mmseg')), allow_module_level=True)

from tests.reliability import every_config
from tests.test_configs import ROOT

CONFIG = ROOT / 'configs' / 'pspnet' / 'pspnet_r18-d8_w32-ohem_1xb8-400_sample-96x128.py'


@pytest.mark.slow
def test_finite_and_not(monkeypatch):
    """Three steps here; docs/reliability.md tells what came of 50 of each config."""
    row = every_config.train(CONFIG, 'segmentor', 'bfloat16', 3)
    assert row.problem == ''
    assert 0 < row.last != row.first < 20
    assert len(row.held) == 1

    build = every_config.build

    def build_with_an_infinite_rate(*arguments):
        model, wrapper, batches = build(*arguments)
        wrapper.optimizer.param_groups[0]['lr'] = float('inf')
        return model, wrapper, batches

    monkeypatch.setattr(every_config, 'build', build_with_an_infinite_rate)
    row = every_config.train(CONFIG, 'segmentor', 'bfloat16', 3)
    assert row.problem.endswith('.weight, step 1')


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
def test_the_first_that_is_not_finite_is_named(value):
    fine = {'a': torch.ones(2), 'none': None, 'count': torch.tensor(3), 'empty': torch.zeros(0)}
    assert every_config.not_finite(fine.items()) == ''
    bad = torch.tensor([1.0, value])
    assert every_config.not_finite({**fine, 'b': bad, 'c': bad}.items()) == 'b'


def test_growth():
    assert not grows([600.0, 660.0] + [660.0] * 18)  # at the start
    assert not grows([600.0 + step for step in range(20)])  # by less than 20 MB
    assert grows([600.0 + 5 * step for step in range(20)])
    assert curve([float(step) for step in range(40)]) == '3 7 11 15 19 23 27 31 35 39'
