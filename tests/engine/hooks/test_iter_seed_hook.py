"""IterSeedHook; a whole run that is killed and resumed with it is in tests/tools/test_train.py."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmplugins.engine.hooks import IterSeedHook
from mmplugins.registry import HOOKS


def draw() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def runner(iteration: int, seed: int = 5) -> SimpleNamespace:
    return SimpleNamespace(seed=seed, iter=iteration, train_dataloader=SimpleNamespace(), train_loop=SimpleNamespace())


@pytest.fixture(autouse=True)
def _keep_the_generators():
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])


@pytest.fixture
def hook() -> IterSeedHook:
    return HOOKS.build(dict(type='mmplugins.IterSeedHook'))


def test_before_a_batch_is_loaded(hook):
    """A start at iteration 3, the end of the iteration before it and a validation give the same numbers."""
    hook.before_train_epoch(runner(3))
    expected = draw()
    hook.after_train_iter(runner(2), batch_idx=2)  # the loop counts after this call
    assert draw() == expected
    hook.after_val(runner(3))
    assert draw() == expected


def test_batches_that_are_dropped_at_a_resume_draw_no_more_numbers(hook):
    """mmengine up to 0.10.7 loads two batches before that of iteration 2, which sees the same numbers all the same."""
    hook.after_train_iter(runner(1), batch_idx=1)
    expected = draw()
    resumed = runner(2)
    resumed.train_loop.dataloader_iterator = (draw() for _ in range(4))
    hook.before_train_epoch(resumed)
    batches = [next(resumed.train_loop.dataloader_iterator) for _ in range(3)]
    assert batches[2] == expected
    started = runner(0)
    started.train_loop.dataloader_iterator = iterator = iter([1])
    hook.before_train_epoch(started)
    assert started.train_loop.dataloader_iterator is iterator


def test_loading_and_model_seed_and_iteration_differ(hook):
    drawn = []
    for seed, iteration in ((5, 3), (5, 4), (6, 3)):
        hook.before_train_epoch(runner(iteration, seed))
        drawn.append(draw())
        hook.before_train_iter(runner(iteration, seed), batch_idx=0)
        drawn.append(draw())
    for numbers in zip(*drawn, strict=True):
        assert len(set(numbers)) == 6


def test_new_iterators_draw_from_a_generator_of_their_own(hook):
    """The seed of an iterator's workers; samples are seeded too, see tests/engine/test_seeded_batches.py."""
    run = runner(0)
    run.train_dataloader = torch.utils.data.DataLoader([1, 2])
    hook.before_train(run)
    state = torch.get_rng_state()
    iterator = iter(run.train_dataloader)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(list(iterator)) == 2
