import pytest
import torch

from mmplugins.models.segmentors.aot.memory import FrameMemory, KeyValue


def entries(frame, blocks=2):
    """Two positions a frame, keys hold the frame's number and values the negative."""
    return [KeyValue(torch.full((1, 2, 1), float(frame)), torch.full((1, 2, 1), -float(frame))) for _ in range(blocks)]


def stored(memory):
    """Numbers of the frames in the long-term memory, which must be the same in all blocks, keys and values."""
    frames = [block.key.flatten()[::2].int().tolist() for block in memory.long_term]
    assert all(x == frames[0] for x in frames)
    assert all(torch.equal(block.key, -block.value) for block in memory.long_term)
    assert memory.num_frames == len(frames[0])
    return frames[0]


def run(length, gap=None, max_stored=None, references=(0,)):
    memory = FrameMemory(gap, max_stored)
    for frame in range(length):
        (memory.add_reference if frame in references else memory.update)(entries(frame), frame)
        assert memory.short_term[0].key.flatten().tolist() == [frame, frame]
    return memory


def test_wrong_settings_and_order():
    with pytest.raises(ValueError, match='gap is a number of frames, at least 1, or None for never, got 0'):
        FrameMemory(0)
    with pytest.raises(ValueError, match='max_stored is a number of frames, at least 1, or None for no bound, got 0'):
        FrameMemory(5, 0)
    with pytest.raises(RuntimeError, match='the memory is empty; the first frame must be a reference'):
        FrameMemory().update(entries(0), 0)


@pytest.mark.parametrize(
    ('gap', 'frames'), [(None, [0]), (1, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 2, 4, 6]), (5, [0, 5]), (7, [0])]
)
def test_gap(gap, frames):
    assert stored(run(7, gap)) == frames


def test_references_join_whatever_the_gap():
    assert stored(run(12, 5, references=(0, 3))) == [0, 3, 8]


@pytest.mark.parametrize(('max_stored', 'frames'), [(1, [0, 8, 10]), (3, [0, 6, 8, 10]), (9, [0, 2, 4, 6, 8, 10])])
def test_bound(max_stored, frames):
    """References never leave."""
    assert stored(run(11, 2, max_stored, references=(0, 8) if max_stored == 1 else (0,))) == frames


def test_long_video_takes_constant_memory():
    memory = run(300, 2, 3)
    assert stored(memory) == [0, 294, 296, 298]
    assert memory.long_term[0].key.untyped_storage().nbytes() == 4 * 2 * 4
