"""Random numbers that depend on the iteration alone, so that a resumed run draws what it would have drawn.

mmengine seeds once, when the runner is built. A resumed run therefore starts its random numbers over: it repeats the
dropout masks and the augmentations of the first iterations. Storing the generators' states in the checkpoint would not
mend it: only rank 0 writes checkpoints, and a validation between the checkpoint and the next iteration draws too.
"""

import random
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmplugins.registry import HOOKS


@HOOKS.register_module()
class IterSeedHook(Hook):
    """Seeds Python, numpy and torch twice an iteration, from the run's seed and the iteration.

    1. Before a batch is loaded: at the start, after each iteration and after each validation.
    2. Before a batch enters the model, so that its dropout does not depend on how the batch was loaded.

    A run that is killed and resumed then equals one that was not, if the arithmetic is deterministic
    (``randomness=dict(seed=..., deterministic=True)``) and the batches are loaded in the main process
    (``num_workers=0``). Workers keep mmengine's seeds: after a resume they start their augmentations over, as they
    do without this hook. Ranks share their numbers unless ``randomness`` has ``diff_rank_seed=True``.
    Nothing is added to the checkpoint, and any checkpoint can be resumed from.

    Examples:
        >>> custom_hooks = [dict(type='mmplugins.IterSeedHook')]
    """

    priority = 'LOWEST'  # after the hooks that draw numbers themselves

    def before_train(self, runner: Runner) -> None:
        """Sets the generator of the data loader: each iterator draws from it, and a resumed run has one more."""
        runner.train_dataloader.generator = torch.Generator().manual_seed(runner.seed)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seeds for the first batch of an epoch or of a resumed run."""
        iterator = getattr(runner.train_loop, 'dataloader_iterator', None)
        if runner.iter and iterator is not None and not hasattr(iterator, 'skip_iter'):
            # mmengine up to 0.10.7 loads the batches of the iterations that are done, and drops them
            runner.train_loop.dataloader_iterator = _SeededAgain(iterator, runner.iter, runner.seed)
        _seed(runner.seed, runner.iter, 'data')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seeds for the model."""
        _seed(runner.seed, runner.iter, 'model')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Seeds for the next batch."""
        _seed(runner.seed, runner.iter + 1, 'data')  # the loop counts after this call

    def after_val(self, runner: Runner) -> None:
        """Seeds for the next batch again: a resumed run does not repeat the validation."""
        _seed(runner.seed, runner.iter, 'data')


class _SeededAgain:
    """Seeds once more when the batches that are dropped, and draw numbers, are through."""

    def __init__(self, iterator: Iterator, dropped: int, seed: int) -> None:
        self.iterator, self.dropped, self.seed = iterator, dropped, seed
        self.loaded = 0

    def __iter__(self) -> '_SeededAgain':
        return self

    def __next__(self) -> object:
        if self.loaded == self.dropped:
            _seed(self.seed, self.dropped, 'data')
        self.loaded += 1
        return next(self.iterator)


def _seed(seed: int, iteration: int, purpose: str) -> None:
    sequence = np.random.SeedSequence([seed, iteration, ('data', 'model').index(purpose)])
    value = int(sequence.generate_state(1, np.uint64)[0])
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 (the generator that transforms use)
    torch.manual_seed(value)
