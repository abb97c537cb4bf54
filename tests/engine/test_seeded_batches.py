"""Batches that seed before each sample, in mmengine's loops: with workers, resumed, with any sampler."""

import gc
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.registry import DATA_SAMPLERS, DATASETS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import BatchSampler, Dataset, IterableDataset

from mmplugins.engine.hooks import IterSeedHook
from mmplugins.engine.seeded_batches import SeededIndices, seed_batches

SEED, COUNT, BATCH = 5, 7, 2
# mmengine up to 0.10.7 makes the iterator with the loop: workers keep its seeds, and load again what is done
EAGER = not hasattr(_InfiniteDataloaderIterator, 'skip_iter')
WORKERS = [dict(num_workers=0), dict(num_workers=2), dict(num_workers=2, persistent_workers=True)]


@DATASETS.register_module()
class DrawingDataset(Dataset):
    """Its samples are their index and what each generator draws."""

    metainfo = dict(classes=())

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple:
        assert type(index) is int
        return index, random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    def full_init(self) -> None:
        """As mmengine's wrappers ask for."""


@DATASETS.register_module()
class DrawingFrames(DrawingDataset):
    """The same as frames of two videos."""

    def get_data_info(self, index: int) -> dict:
        return dict(video_name='ab'[index // 4], frame_id=index % 4)


@DATA_SAMPLERS.register_module()
class OddAndEven(BatchSampler):
    """A batch sampler of another kind: batches of even indices, and of odd ones."""

    def __init__(self, sampler, batch_size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)

    def __iter__(self):
        waiting = {0: [], 1: []}
        for index in self.sampler:
            batch = waiting[index % 2]
            batch.append(index)
            if len(batch) == self.batch_size:
                yield list(batch)
                batch.clear()


@pytest.fixture(autouse=True)
def _keep_the_generators():
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])


class TinyRunner(SimpleNamespace):
    """What a loop and the hook ask of a runner; notes the batches."""

    iter = property(lambda self: self.train_loop.iter)
    train_dataloader = property(lambda self: self.train_loop.dataloader)

    def call_hook(self, name: str, **values) -> None:
        if name == 'before_train_epoch' and hasattr(self.train_loop.dataloader.sampler, 'set_epoch'):
            self.train_loop.dataloader.sampler.set_epoch(self.train_loop.epoch)  # as DistSamplerSeedHook does
        if hasattr(self.hook, name):
            getattr(self.hook, name)(self, **values)
        if name == 'before_train_iter':
            self.seen.append(list(zip(*values['data_batch'], strict=True)))


def train(iterations: int, resumed: int = 0, by_epoch: bool = False, hook: object = None, **settings) -> list:
    """Runs a loop; returns its batches."""
    config = dict(dataset=dict(type='DrawingDataset'), sampler=dict(type='InfiniteSampler'), batch_size=BATCH)
    loader = Runner.build_dataloader({**config, **settings}, seed=SEED)
    model = SimpleNamespace(train=lambda: None, train_step=lambda *_, **__: {})
    run = TinyRunner(
        seed=SEED, seen=[], model=model, optim_wrapper=None, val_loop=None, visualizer=SimpleNamespace(),
        hook=IterSeedHook() if hook is None else hook,
    )  # fmt: skip
    loop = EpochBasedTrainLoop if by_epoch else IterBasedTrainLoop
    run.train_loop = loop(run, loader, iterations)
    run.train_loop._iter = resumed
    if by_epoch:
        run.train_loop._epoch = resumed // len(loader)
    run.train_loop.run()
    seen = run.seen
    if loader.num_workers:  # they must end before others are forked, which would hold their ends of the queues
        loader._iterator = None
        del run.train_loop, loader, run, loop
        gc.collect()
    return seen


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda _: None)


@pytest.mark.parametrize('workers', WORKERS)
@pytest.mark.parametrize(
    'settings',
    [
        {},
        dict(sampler=dict(type='DefaultSampler', shuffle=True)),  # is begun anew after 4 batches; mmengine drops
        dict(batch_sampler=dict(type='OddAndEven')),
    ],
    ids=['infinite', 'default', 'batch sampler'],
)
def test_a_resumed_run_draws_what_it_would_have_drawn(settings, workers):
    """Resumed at iteration 5, in the middle of the second pass over the data; the reference has no workers."""
    expected = train(8, **settings, **workers if EAGER else {})
    assert train(8, resumed=5, **settings, **workers) == expected[5:]
    if not EAGER:
        numbers = [sample[1] for batch in expected for sample in batch]
        assert len(set(numbers)) == len(numbers) >= 14


@pytest.mark.parametrize('workers', WORKERS)
def test_epochs(workers):
    settings = dict(sampler=dict(type='DefaultSampler', shuffle=True), by_epoch=True)
    expected = train(3, **settings)
    assert len(expected) == 12
    assert train(3, resumed=4, **settings, **workers) == expected[4:]


@pytest.mark.skipif(EAGER, reason='workers load again what is done')
def test_without_the_hook_workers_start_over():
    """So the tests above do depend on it; mmengine keeps the order of the samples."""
    expected, resumed = train(8, num_workers=2, hook=object()), train(8, resumed=5, num_workers=2, hook=object())
    assert [sample[0] for batch in resumed for sample in batch] == [s[0] for batch in expected[5:] for s in batch]
    assert resumed != expected[5:]


def test_repeated_data_sets():
    """A sample that comes twice in an epoch draws anew."""
    settings = dict(dataset=dict(type='RepeatDataset', times=2, dataset=dict(type='DrawingDataset')), num_workers=2)
    expected = train(7, **settings)
    assert len({sample[1] for batch in expected for sample in batch}) == 14
    assert train(7, resumed=6, **settings) == expected[6:]


@pytest.mark.parametrize('workers', WORKERS)
def test_joined_data_sets(workers):
    """Each sample of each part draws its own numbers."""
    parts = [dict(type='DrawingDataset'), dict(type='DrawingDataset')]
    settings = dict(dataset=dict(type='ConcatDataset', datasets=parts), sampler=dict(type='InfiniteSampler'))
    expected = train(9, **settings, **workers if EAGER else {})
    assert len({sample[1] for batch in expected for sample in batch}) == 18 or EAGER
    assert train(9, resumed=4, **settings, **workers) == expected[4:]


@pytest.mark.parametrize('workers', WORKERS)
def test_frames_of_videos_in_order(workers):
    """VideoSampler, whose second pass over the videos draws other numbers than the first."""
    settings = dict(dataset=dict(type='DrawingFrames'), sampler=dict(type='mmplugins.VideoSampler'), by_epoch=True)
    expected = train(2, **settings)
    frames = [sample[0] for batch in expected for sample in batch]
    assert frames == [*range(COUNT), *range(COUNT)]
    assert len({sample[1] for batch in expected for sample in batch}) == 2 * COUNT
    assert train(2, resumed=4, **settings, **workers) == expected[4:]


@pytest.mark.slow
@pytest.mark.skipif(EAGER, reason='workers load again what is done')
def test_workers_that_are_spawned():
    """They get the batches' places through pickle, and know nothing of this process's generators."""
    spawned = dict(num_workers=1, persistent_workers=True, multiprocessing_context='spawn')
    expected = train(4)
    assert train(4, **spawned) == expected
    assert train(4, resumed=2, **spawned) == expected[2:]


def test_ranks_and_places_differ():
    batches = [SeededIndices([3, 3], place) for place in ((5, 1, 0), (5, 1, 1), (5, 2, 0), (6, 1, 0))]
    drawn = [np.random.rand() for batch in batches for _ in batch]  # noqa: NPY002
    assert len(set(drawn)) == 8
    assert [np.random.rand() for batch in batches for _ in batch] == drawn  # noqa: NPY002
    assert list(batches[0]) == [3, 3]


def test_the_loader_stays_what_it_is():
    """Its parts, as hooks read them and change the data set's pipeline."""
    loader = Runner.build_dataloader(
        dict(dataset=dict(type='DrawingDataset'), sampler=dict(type='InfiniteSampler'), batch_size=2)
    )
    parts = loader.dataset, loader.sampler, loader.batch_sampler, loader.batch_size, len(loader)
    seed_batches(loader, lambda: 0, SEED, 0)
    seed_batches(loader, lambda: 0, SEED, 0)
    assert isinstance(loader, torch.utils.data.DataLoader)
    assert (loader.dataset, loader.sampler, loader.batch_sampler, loader.batch_size, len(loader)) == parts
    loader.dataset.pipeline = 'another'
    assert loader.dataset.pipeline == 'another'


def test_loaders_without_batches_stay_as_they_are():
    class Numbers(IterableDataset):
        def __iter__(self):
            return iter(np.random.rand(4))  # noqa: NPY002

    single = torch.utils.data.DataLoader([1, 2], batch_size=None)
    assert seed_batches(single, lambda: 0, SEED, 0) is None
    assert list(single) == [1, 2]
    assert seed_batches([1, 2], lambda: 0, SEED, 0) is None
    streamed = torch.utils.data.DataLoader(Numbers(), batch_size=3)
    assert seed_batches(streamed, lambda: 0, SEED, 0) is not None
    assert [len(batch) for batch in streamed] == [3, 1]
