"""Batches whose samples draw the same random numbers whichever process loads them, and whenever.

A worker process draws one number after the other, so that what a sample draws depends on all that its worker has loaded
before, and a resumed run, whose workers start anew, augments otherwise than one that was not interrupted. Here the
generators are seeded before each sample, from its place in the run. The data set and its indices stay as they are: it
is the list of a batch's indices that seeds, as the process that loads the batch goes through it.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader

PURPOSES = ('data', 'model', 'sample')


class SeededIndices:
    """The indices of a batch; going through them seeds before each.

    Args:
        indices: Of the data set.
        place: What the numbers depend on besides the index's place in the batch: seed of the run, iteration, rank.
    """

    def __init__(self, indices: Sequence, place: tuple[int, int, int]) -> None:
        self.indices, self.place = indices, place

    def __iter__(self) -> Iterator:
        """Yields the indices."""
        seed, iteration, rank = self.place
        for number, index in enumerate(self.indices):
            seed_all(seed, iteration, 'sample', rank, number)
            yield index

    def __len__(self) -> int:
        """Number of indices."""
        return len(self.indices)


class SeededBatches:
    """A batch sampler's batches as ``SeededIndices``, counted by iterations.

    Args:
        batches: The batch sampler.
        iteration: Gives the iteration that the next batch is for.
        seed: Of the run.
        rank: Of this process.
    """

    def __init__(self, batches: Iterable[Sequence], iteration: Callable[[], int], seed: int, rank: int) -> None:
        self.batches, self.iteration, self.seed, self.rank = batches, iteration, seed, rank
        self.passed: int | None = None

    def __iter__(self) -> Iterator[SeededIndices]:
        """Yields the batches; they are asked for before their iteration begins, where workers load ahead."""
        number = self.iteration() if self.passed is None else self.passed
        for batch in self.batches:
            if self.passed is not None:
                self.passed = number + 1
            yield SeededIndices(batch, (self.seed, number, self.rank))
            number += 1

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batches)


class SkippedBatches:
    """Mmengine's endless iterator, in a run that is resumed: tells batches that are passed over from later ones.

    mmengine either moves the sampler on, and draws no batch, or draws those of the iterations that are done.
    """

    def __init__(self, iterator: Iterator, batches: SeededBatches) -> None:
        self.iterator, self.batches = iterator, batches

    def __iter__(self) -> 'SkippedBatches':
        """Returns itself."""
        return self

    def __next__(self) -> object:
        """Returns the next batch."""
        return next(self.iterator)

    def skip_iter(self, count: int) -> None:
        """Passes over the batches of the iterations that are done."""
        self.batches.passed = 0
        self.iterator.skip_iter(count)
        self.batches.passed = None


def seed_batches(loader: DataLoader, iteration: Callable[[], int], seed: int, rank: int) -> SeededBatches | None:
    """Has a data loader seed the generators before each sample; its iterators must be made after that.

    Sampler, batch sampler and data set of the loader stay what they are.

    Args:
        loader: Changed in place.
        iteration: Gives the iteration that the next batch is for, when an iterator is made.
        seed: Of the run.
        rank: Of this process.

    Returns:
        The batches; None if the loader does not load in batches, and stays as it is.
    """
    if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
        return None
    batches = SeededBatches(loader.batch_sampler, iteration, seed, rank)
    # PyTorch lets neither sampler nor data set be set once a loader is built. Its class names what iterators take their
    # batches from, so this one loader gets a class of its own; whoever holds it sees that.
    kind = type(loader)
    loader.__class__ = type(kind.__name__, (kind,), dict(_index_sampler=batches, __module__=kind.__module__))
    return batches


def seed_all(seed: int, iteration: int, purpose: str, *place: int) -> None:
    """Seeds Python, numpy and torch.

    Args:
        seed: Of the run.
        iteration: From 0.
        purpose: One of ``PURPOSES``.
        *place: More numbers to depend on, 0 or more.
    """
    sequence = np.random.SeedSequence([seed, iteration, PURPOSES.index(purpose), *place])
    value = int(sequence.generate_state(1, np.uint64)[0])
    random.seed(value)
    np.random.seed(value % 2**32)  # noqa: NPY002 (the generator that transforms use)
    torch.manual_seed(value)
