"""Hands each process whole videos, frame by frame."""

from collections.abc import Iterator, Sized

from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mmplugins.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class VideoSampler(Sampler[int]):
    """Indices of a data set of frames: each video in order, on one process, and no frame twice.

    The longest video goes to the process with the fewest frames so far, then the next longest; among equals the earlier
    comes first. Each process has its videos in the order of the data set. Processes may have different numbers of
    frames, and with more processes than videos some have none: a metric must gather its results itself, not by
    mmengine's ``collect_results``, which deals with samplers that go round.

    Args:
        dataset: Its ``get_data_info`` returns ``video_name`` and ``frame_id``; the frames of a video follow one
            another, the first one is frame 0.
        seed: Not used: nothing is random. mmengine's runner passes it.

    Raises:
        ValueError: There are no frames, or they are not those of videos in order.
    """

    def __init__(self, dataset: Sized, seed: int | None = None) -> None:
        rank, world_size = get_dist_info()
        self.indices = [index for video in shares(_videos(dataset), world_size)[rank] for index in video]

    def __iter__(self) -> Iterator[int]:
        """Iterates over this process's indices."""
        return iter(self.indices)

    def __len__(self) -> int:
        """Number of this process's indices."""
        return len(self.indices)


def shares(videos: list[range], count: int) -> list[list[range]]:
    """Distributes videos, longest first, always to the share with the fewest frames.

    Args:
        videos: Indices of each video's frames.
        count: Number of shares.

    Returns:
        The videos of each share, in their own order.
    """
    found: list[list[int]] = [[] for _ in range(count)]
    lengths = [0] * count
    for number in sorted(range(len(videos)), key=lambda number: -len(videos[number])):
        share = lengths.index(min(lengths))
        found[share].append(number)
        lengths[share] += len(videos[number])
    return [[videos[number] for number in sorted(share)] for share in found]


def _videos(dataset: Sized) -> list[range]:
    starts, previous = [], None
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if 'video_name' not in info or 'frame_id' not in info:
            raise ValueError(
                f'VideoSampler needs a data set of frames, with video_name and frame_id, got keys {sorted(info)}; '
                'set test_mode=True in a VOSDataset'
            )
        here = info['video_name'], info['frame_id']
        if here[1] == 0:
            starts.append(index)
        elif previous != (here[0], here[1] - 1):
            raise ValueError(
                f'entry {index} is frame {here[1]} of video {here[0]}, and follows {previous or "nothing"}; the frames '
                'of a video must follow one another, beginning with frame 0'
            )
        previous = here
    if not starts:
        raise ValueError('VideoSampler: the data set has no frames; check its ann_file and data_root')
    return [range(*pair) for pair in zip(starts, [*starts[1:], len(dataset)], strict=True)]
