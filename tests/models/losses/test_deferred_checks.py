import copy

import pytest
import torch
from torch import nn

from mmplugins.models.losses import SoftJaccardLoss
from mmplugins.models.losses.deferred_checks import DeferredChecks


class Arrived:
    def synchronize(self):
        pass


class Counter(DeferredChecks, nn.Linear):
    """A module with arguments of its own, for which two numbers are on their way."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []
        self._reads._pending.extend((Arrived(), torch.tensor(i), self.seen.append) for i in range(2))


def test_what_is_under_way_is_read_before_an_evaluation():
    module = Counter(3, out_features=2)
    assert module.weight.shape == (2, 3)
    assert module.train() is module
    assert module.seen == []
    assert module.eval() is module
    assert module.seen == [0, 1]
    assert not module.training
    assert len(module._reads) == 0


def test_an_evaluation_of_the_model_around_it_counts():
    model = nn.Sequential(Counter(2, 2))
    model.eval()
    assert model[0].seen == [0, 1]


def test_a_copy_waits_for_nothing():
    copied = copy.deepcopy(Counter(2, 2)).eval()
    assert copied.seen == []


def test_what_a_reader_raises_comes_out():
    loss = SoftJaccardLoss()

    def read(value):
        raise ValueError(f'labels hold {int(value)}')

    loss._reads._pending.append((Arrived(), torch.tensor(7), read))
    with pytest.raises(ValueError, match='labels hold 7'):
        loss.eval()
