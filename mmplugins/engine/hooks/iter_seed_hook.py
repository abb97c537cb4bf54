"""Random numbers that depend on the iteration alone, so that a resumed run draws what it would have drawn.

mmengine seeds once, when the runner is built, and each worker when it starts. A resumed run therefore starts its random
numbers over: it repeats the dropout masks and the augmentations of the first iterations. Storing the generators' states
in the checkpoint would not mend it: only rank 0 writes checkpoints, a validation between the checkpoint and the next
iteration draws too, and workers are ahead of the iteration.
"""

from collections.abc import Iterator

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmplugins.engine.seeded_batches import SkippedBatches, seed_all, seed_batches
from mmplugins.registry import HOOKS


@HOOKS.register_module()
class IterSeedHook(Hook):
    """Seeds Python, numpy and torch from the run's seed and the iteration.

    1. Before each sample is loaded, in the process that loads it, from the rank and the place in the batch too.
    2. Before a batch is loaded (at the start, after each iteration and after each validation) and before it enters the
       model, so that its dropout does not depend on how the batch was loaded.

    A run that is killed and resumed then equals one that was not, if the arithmetic is deterministic
    (``randomness=dict(seed=..., deterministic=True)``), and augmentations are the same with any ``num_workers``,
    persistent or not. Processes augment differently; for the model they share their numbers unless ``randomness``
    has ``diff_rank_seed=True``. Nothing is added to the checkpoint, and any checkpoint can be resumed from.

    It does not hold for transforms that keep what they loaded before, as CachedMosaic and CachedMixUp of mmdet do, for
    iteration-based loops with ``fast_forward_on_resume=True``, and for a checkpoint from the middle of an epoch of an
    epoch-based loop: mmengine starts that epoch over. Loaders without batches (``batch_size=None``) and mmengine's
    older iteration-based loops, which make the iterator before any hook is called, keep mmengine's seeds in workers;
    the latter load all batches of the iterations that are done when they resume, so that their workers draw what they
    drew.

    Examples:
        >>> custom_hooks = [dict(type='mmplugins.IterSeedHook')]
    """

    priority = 'LOWEST'  # after the hooks that draw numbers themselves

    def before_train(self, runner: Runner) -> None:
        """Has the data loader seed before each sample, and sets its generator: each iterator draws from it."""
        loader = runner.train_dataloader
        loader.generator = torch.Generator().manual_seed(runner.seed)
        iterator = getattr(runner.train_loop, 'dataloader_iterator', None)
        if getattr(iterator, '_iterator', None) is not None:  # mmengine up to 0.10.7: made with the loop
            return
        batches = seed_batches(loader, lambda: runner.iter, runner.seed, get_rank())
        if batches is not None and runner.iter and hasattr(iterator, 'skip_iter'):
            runner.train_loop.dataloader_iterator = SkippedBatches(iterator, batches)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seeds for the first batch of an epoch or of a resumed run."""
        iterator = getattr(runner.train_loop, 'dataloader_iterator', None)
        if runner.iter and iterator is not None and not hasattr(iterator, 'skip_iter'):
            # mmengine up to 0.10.7 loads the batches of the iterations that are done, and drops them
            runner.train_loop.dataloader_iterator = _SeededAgain(iterator, runner.iter, runner.seed)
        seed_all(runner.seed, runner.iter, 'data')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seeds for the model."""
        seed_all(runner.seed, runner.iter, 'model')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Seeds for the next batch."""
        seed_all(runner.seed, runner.iter + 1, 'data')  # the loop counts after this call

    def after_val(self, runner: Runner) -> None:
        """Seeds for the next batch again: a resumed run does not repeat the validation."""
        seed_all(runner.seed, runner.iter, 'data')


class _SeededAgain:
    """Seeds once more when the batches that are dropped, and draw numbers, are through."""

    def __init__(self, iterator: Iterator, dropped: int, seed: int) -> None:
        self.iterator, self.dropped, self.seed = iterator, dropped, seed
        self.loaded = 0

    def __iter__(self) -> '_SeededAgain':
        return self

    def __next__(self) -> object:
        if self.loaded == self.dropped:
            seed_all(self.seed, self.dropped, 'data')
        self.loaded += 1
        return next(self.iterator)
