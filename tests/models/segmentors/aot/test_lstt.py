import math

import pytest
import torch

from mmplugins.models.segmentors.aot.lstt import LSTT, LSTTBlock, sine_positions
from mmplugins.models.segmentors.aot.memory import KeyValue

SIZE = (3, 4)


def lstt(num_blocks=2, **settings):
    torch.manual_seed(0)
    return LSTT(num_blocks, channels=32, num_heads=4, window=3, feedforward_channels=64, **settings)


def embedding(batch=2, seed=0):
    return torch.randn(batch, 32, *SIZE, generator=torch.Generator().manual_seed(seed))


def identity(batch=2, seed=1):
    return torch.randn(batch, 12, 32, generator=torch.Generator().manual_seed(seed))


def test_smoke():
    model = lstt()
    outputs, entries = model.reference(embedding(), identity())
    assert [tuple(x.shape) for x in outputs] == [(2, 32, *SIZE)] * 2
    assert [tuple(x.shape) for entry in entries for x in entry] == [(2, 12, 32)] * 4
    outputs, frames = model.propagate(embedding(seed=2), entries, entries)
    sum(x.sum() for x in outputs + [x for entry in model.fuse(frames, identity()) for x in entry]).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_reference_reads_itself():
    """Propagating a frame to itself gives what the reference gave: same keys, same values."""
    model = lstt().eval()
    outputs, entries = model.reference(embedding(), identity())
    again, frames = model.propagate(embedding(), entries, entries)
    for x, y in zip(outputs, again, strict=True):
        torch.testing.assert_close(x, y)
    for entry, fused in zip(entries, model.fuse(frames, identity()), strict=True):
        torch.testing.assert_close(entry.key, fused.key)
        torch.testing.assert_close(entry.value, fused.value)


def test_a_memory_twice_as_long_with_the_same_frames_changes_nothing():
    model = lstt().eval()
    _, entries = model.reference(embedding(), identity())
    once, _ = model.propagate(embedding(seed=2), entries, entries)
    twice, _ = model.propagate(embedding(seed=2), [entry.joined(entry) for entry in entries], entries)
    torch.testing.assert_close(once, twice)


def test_block_by_formula():
    block = LSTTBlock(32, 4, 3, 64).eval()
    x, positions = embedding().flatten(2).mT, sine_positions(SIZE, embedding())
    memory = KeyValue(identity(seed=3), identity(seed=4))
    out, frame = block.propagate(x, positions, SIZE, memory, memory)

    content = block.self_norm(x)
    x = x + block.self_attention(content + positions, content + positions, content)
    content = block.memory_norm(x)
    query = block.query_key(content)
    x = x + block.long_term_attention(query, *memory) + block.short_term_attention(query, *memory, SIZE)
    x = x + block.feedforward(block.feedforward_norm(x), SIZE)
    torch.testing.assert_close(out, x)
    torch.testing.assert_close(frame, KeyValue(query, content))
    fused = block.fuse(frame, identity())
    torch.testing.assert_close(fused.value, block.value(content + identity()))


def test_drop_path():
    """In training whole residuals are left out, sample by sample; in evaluation none."""
    model = lstt(drop_path=0.5)
    _, entries = model.reference(embedding(), identity())
    first, second = (model.propagate(embedding(), entries, entries)[0][-1] for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    first, second = (model.propagate(embedding(), entries, entries)[0][-1] for _ in range(2))
    assert torch.equal(first, second)


def test_positions_by_hand():
    """Four channels: sine and cosine of y, then of x, over 2 pi; the last coordinate is 2 pi."""
    positions = sine_positions((2, 3), torch.zeros(1, 4, 2, 3)).view(2, 3, 4)
    torch.testing.assert_close(positions[0, 0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(positions[1, 1], torch.tensor([0.0, 1.0, 0.0, -1.0]), atol=1e-5, rtol=0)
    wide = sine_positions((1, 5), torch.zeros(1, 8, 1, 5)).view(5, 8)
    quarter = math.pi / 2
    expected = [math.sin(quarter), math.cos(quarter), math.sin(quarter / 100), math.cos(quarter / 100)]
    torch.testing.assert_close(wide[1, 4:], torch.tensor(expected), atol=1e-5, rtol=0)
    assert torch.equal(wide[:, :4], wide[:1, :4].expand(5, -1))  # a single row


def test_half_precision():
    model = lstt().eval()
    _, entries = model.reference(embedding(), identity())
    expected, _ = model.propagate(embedding(seed=2), entries, entries)
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        _, entries = model.reference(embedding(), identity())
        outputs, _ = model.propagate(embedding(seed=2), entries, entries)
    for out, other in zip(outputs, expected, strict=True):
        torch.testing.assert_close(out.float(), other.detach(), atol=0.1, rtol=0.1)


@pytest.mark.parametrize('num_blocks', [1, 3])
def test_the_unread_token_is_no_parameter(num_blocks):
    """Or distributed training would stop at it."""
    model = lstt(num_blocks)
    assert 'mask_token' in model.state_dict()
    assert 'mask_token' not in dict(model.named_parameters())
    assert len(model.norms) == num_blocks
