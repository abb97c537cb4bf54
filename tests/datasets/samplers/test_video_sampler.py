import itertools

import pytest

from mmplugins.datasets.samplers import video_sampler
from mmplugins.registry import DATA_SAMPLERS


class Frames(list):
    """A data set of frames: pairs of video and index."""

    def get_data_info(self, index):
        return dict(zip(('video_name', 'frame_id'), self[index], strict=False))


def frames(lengths):
    return Frames((f'v{video}', index) for video, length in enumerate(lengths) for index in range(length))


def samplers(dataset, count, monkeypatch):
    found = []
    for rank in range(count):
        monkeypatch.setattr(video_sampler, 'get_dist_info', lambda rank=rank: (rank, count))
        found.append(DATA_SAMPLERS.build(dict(type='mmplugins.VideoSampler', dataset=dataset, seed=1)))
    return found


def test_one_process_has_all_in_order(monkeypatch):
    (sampler,) = samplers(frames([3, 1, 2]), 1, monkeypatch)
    assert list(sampler) == [0, 1, 2, 3, 4, 5]
    assert len(sampler) == 6


def test_shares_by_hand(monkeypatch):
    """Of lengths 2, 5, 3, 4: 5 goes to rank 0, 4 to rank 1, 3 to rank 1 (4 < 5), 2 to rank 0 (5 < 7)."""
    first, second = samplers(frames([2, 5, 3, 4]), 2, monkeypatch)
    assert list(first) == [*range(7)]
    assert list(second) == [*range(7, 14)]


@pytest.mark.parametrize('count', [1, 2, 3, 4, 7])
@pytest.mark.parametrize('lengths', [[4], [5, 5, 5], [1, 2, 3, 4, 5, 6], [90, 49], [7, 1, 1, 9, 2, 8, 3]])
def test_partition_and_balance(lengths, count, monkeypatch):
    """All frames once, videos whole; the largest share is at most 4/3 of the best that any distribution has."""
    dataset = frames(lengths)
    found = [list(sampler) for sampler in samplers(dataset, count, monkeypatch)]
    assert sorted(itertools.chain(*found)) == list(range(len(dataset)))
    for indices in found:
        assert indices == sorted(indices)
        names = [dataset[index][0] for index in indices]
        for name, group in itertools.groupby(names):
            assert len(list(group)) == lengths[int(name[1:])]
    if count ** len(lengths) <= 5000:
        best = min(
            max(sum(n for n, share in zip(lengths, choice, strict=True) if share == rank) for rank in range(count))
            for choice in itertools.product(range(count), repeat=len(lengths))
        )
        assert max(map(len, found)) <= best * 4 / 3


def test_frames_out_of_order(monkeypatch):
    with pytest.raises(ValueError, match='entry 1 is frame 2 of video a'):
        samplers(Frames([('a', 0), ('a', 2)]), 1, monkeypatch)
    with pytest.raises(ValueError, match=r'entry 0 is frame 1 of video a, and follows nothing'):
        samplers(Frames([('a', 1)]), 1, monkeypatch)


def test_a_data_set_of_videos(monkeypatch):
    with pytest.raises(ValueError, match='set test_mode=True in a VOSDataset'):
        samplers(Frames([('a',)]), 1, monkeypatch)
