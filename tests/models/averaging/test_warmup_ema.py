import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmplugins.models.averaging import WarmupEMA


def scalar(value):
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer.double()


def weights_of_new(momentum, updates):
    """How much new weights weigh in each update: the average is 0, the model 1 before each."""
    average, found = WarmupEMA(scalar(0), momentum=momentum), []
    for _ in range(updates):
        average.module.weight.zero_()
        average.update_parameters(scalar(1))
        found.append(average.module.weight.item())
    return found


def test_first_weights_are_the_released_ones():
    """0.818, 0.750, 0.692, 0.643, 0.600, as the released code's first updates."""
    assert weights_of_new(1e-4, 5) == pytest.approx([9 / 11, 9 / 12, 9 / 13, 9 / 14, 9 / 15], abs=1e-12)


def test_momentum_is_the_least_weight():
    assert weights_of_new(0.5, 10)[6:] == pytest.approx([9 / 17, 0.5, 0.5, 0.5], abs=1e-12)


def test_as_the_released_loop():
    """The released rule, average -= (1 - min(decay, (1 + n) / (10 + n))) (average - weight), in a loop."""
    decay, model, expected = 0.99, scalar(0.3), 0.3
    average = MODELS.build(dict(type='mmplugins.WarmupEMA', model=model, momentum=1 - decay))
    for n in range(1, 2000):
        weight = 0.3 + 0.001 * n
        nn.init.constant_(model.weight, weight)
        expected -= (1 - min(decay, (1 + n) / (10 + n))) * (expected - weight)
        average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-12)


def test_resumed_as_if_not_interrupted():
    first, model = WarmupEMA(scalar(0)), scalar(1)
    for _ in range(3):
        first.update_parameters(model)
    resumed = WarmupEMA(scalar(7))
    resumed.load_state_dict(first.state_dict())
    for average in (first, resumed):
        average.update_parameters(scalar(2))
    assert torch.equal(first.module.weight, resumed.module.weight)
