import pytest
import torch

pytest.importorskip('mmseg', reason='AOT is built with mmseg')

from mmplugins.models.segmentors.aot import VideoEngine
from mmplugins.models.segmentors.aot.engine import merge_groups
from mmplugins.models.segmentors.aot.settings import SequencePass
from mmplugins.models.segmentors.aot.training import sequence_logits
from tests.models.segmentors.aot.aot_models import clips, moving_masks, tiny_aot


@pytest.fixture(scope='module')
def network():
    return tiny_aot().eval().network


def track(network, frames, mask, gap=None, size=None, max_stored=None):
    """Logits of all frames but the first, each frame's own prediction in the memory."""
    engine = VideoEngine(network, gap, max_stored)
    engine.add_reference(frames[:1], mask)
    logits = []
    for frame in frames[1:].split(1):
        logits.append(engine.propagate(frame, size))
        engine.remember(logits[-1].argmax(1))
    return logits


def test_smoke(network):
    logits = track(network, clips()[0], moving_masks()[:1, 0])
    assert [tuple(x.shape) for x in logits] == [(1, 3, 33, 49)] * 2


def test_calls_out_of_order(network):
    engine, frame, mask = VideoEngine(network), clips()[:1, 0], moving_masks()[:1, 0]
    with pytest.raises(RuntimeError, match='the first frame of a video needs a mask; call add_reference'):
        engine.propagate(frame)
    with pytest.raises(RuntimeError, match='add_reference without an image is for a frame that propagate has had'):
        engine.add_reference(None, mask)
    with pytest.raises(RuntimeError, match='no frame is waiting for a mask; call propagate first'):
        engine.remember(mask)
    engine.add_reference(frame, mask)
    engine.propagate(frame)
    with pytest.raises(RuntimeError, match='frame 1 was propagated but has no mask; call remember or add_reference'):
        engine.propagate(frame)


def test_wrong_masks(network):
    engine, frame, mask = VideoEngine(network), clips()[:1, 0], moving_masks()[:1, 0]
    with pytest.raises(ValueError, match=r'at least one object, and no fewer than there were \(0\), got 0; give'):
        engine.add_reference(frame, torch.zeros_like(mask))
    with pytest.raises(ValueError, match=r'a mask has shape \(1, height, width\), got \(33, 49\)'):
        engine.add_reference(frame, mask[0])
    engine = VideoEngine(network)
    engine.add_reference(frame, mask)
    with pytest.raises(ValueError, match=r'no fewer than there were \(2\), got 1'):
        engine.add_reference(frame, mask, num_objects=1)
    engine.add_reference(frame, mask.clamp(max=1))  # the second is hidden
    assert engine.num_objects == 2


@pytest.mark.parametrize('gap', [None, 1, 2])
def test_as_in_training(network, gap):
    """The engine, one video at a time, gives the logits of a batch of sequences whose memory sees predictions."""
    frames, masks = clips(length=5), moving_masks(length=5)
    settings = SequencePass(gap, own_masks=True)
    with torch.no_grad():
        expected = sequence_logits(network, frames, masks, torch.tensor([2, 2]), settings)[1:]
    for b in range(2):
        for out, other in zip(track(network, frames[b], masks[b : b + 1, 0], gap), expected, strict=True):
            torch.testing.assert_close(out[0], other[b, :3], atol=1e-4, rtol=1e-4)


def test_groups_by_hand():
    """Two groups of one object: backgrounds 0.5 and 0.8, hence 0.4 together; objects 0.5 and 0.2."""
    groups = [torch.tensor([p]).log().view(1, 2, 1, 1) for p in ([0.5, 0.5], [0.8, 0.2])]
    merged = merge_groups(groups).flatten()
    torch.testing.assert_close(merged.sigmoid(), torch.tensor([0.4, 0.5, 0.2]))
    odds = torch.tensor([0.4 / 0.6, 1.0, 0.25])
    torch.testing.assert_close(merged.softmax(0), odds / odds.sum())
    certain = merge_groups([torch.tensor([50.0, -50.0]).view(1, 2, 1, 1)] * 2).flatten()
    torch.testing.assert_close(certain.sigmoid(), torch.tensor([1 - 1e-5, 1e-5, 1e-5]))


def test_more_objects_than_identities(network):
    """Five objects with three identities: the passes see objects 1 to 3, and 4 and 5 as 1 and 2."""
    frames = clips(length=4, width=81)[0]
    mask = moving_masks(width=81, objects=5)[:1, 0]
    engine = VideoEngine(network)
    engine.add_reference(frames[:1], mask)
    passes = [VideoEngine(network) for _ in range(2)]
    parts = [torch.where(mask <= 3, mask, 0), torch.where(mask > 3, mask - 3, 0)]
    for one, part in zip(passes, parts, strict=True):
        one.add_reference(frames[:1], part)
    for frame in frames[1:].split(1):
        logits = engine.propagate(frame)
        assert logits.shape == (1, 6, 33, 81)
        torch.testing.assert_close(logits, merge_groups([one.propagate(frame) for one in passes]))
        mask = logits.argmax(1)
        engine.remember(mask)
        for one, part in zip(passes, (torch.where(mask <= 3, mask, 0), (mask - 3).clamp(min=0)), strict=True):
            one.remember(part)


def test_logits_of_any_size_and_masks_of_any_size(network):
    frames, mask = clips()[0], moving_masks()[:1, 0]
    big = mask.repeat_interleave(2, 1).repeat_interleave(2, 2)
    plain = track(network, frames, mask)
    large = track(network, frames, big, size=(66, 98))
    assert large[0].shape == (1, 3, 66, 98)
    torch.testing.assert_close(network.resize(plain[0], (5, 7)), network.resize(large[0], (5, 7)), atol=0.2, rtol=0.2)


def test_objects_that_appear_later(network):
    """A third object joins the identities that are there; a fourth starts a group whose memory begins there."""
    frames, masks = clips(length=3, width=81)[0], moving_masks(length=3, width=81, objects=4)
    engine = VideoEngine(network, gap=1)
    engine.add_reference(frames[:1], torch.where(masks[:1, 0] <= 2, masks[:1, 0], 0))
    assert engine.propagate(frames[1:2]).shape[1] == 3
    engine.add_reference(None, masks[:1, 1])
    assert engine.num_objects == 4
    assert [memory.num_frames for memory in engine._memories] == [2, 1]
    assert engine.propagate(frames[2:]).shape[1] == 5
    engine.remember(masks[:1, 2])
    assert [memory.num_frames for memory in engine._memories] == [3, 2]
    assert engine.frame == 2


def test_ignored_pixels_of_a_given_mask(network):
    """255 is no object."""
    mask = moving_masks()[:1, 0]
    mask[:, :4] = 255
    engine = VideoEngine(network)
    engine.add_reference(clips()[:1, 0], mask)
    assert engine.num_objects == 2
    assert engine.propagate(clips()[:1, 1]).shape[1] == 3


def test_memory_does_not_grow_with_the_video(network):
    def kept(engine):
        entries = [entry for memory in engine._memories for entry in memory.long_term + memory.short_term]
        return sum(x.untyped_storage().nbytes() for entry in entries for x in entry)

    engine = VideoEngine(network, gap=1, max_stored=2)
    frames, mask = clips(length=8)[0], moving_masks()[:1, 0]
    engine.add_reference(frames[:1], mask)
    sizes = []
    for frame in frames[1:].split(1):
        engine.propagate(frame)
        engine.remember(mask)
        sizes.append(kept(engine))
    assert sizes[1:] == [sizes[1]] * 6


def test_no_gradient_is_recorded(network):
    logits = track(network, clips()[0], moving_masks()[:1, 0])
    assert not logits[0].requires_grad
