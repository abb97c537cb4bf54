import pytest
import torch

pytest.importorskip('mmseg', reason='AOT is built with mmseg')

from mmplugins.models.losses import SoftJaccardLoss, TopKCrossEntropyLoss
from mmplugins.models.segmentors.aot import training
from mmplugins.models.segmentors.aot.memory import FrameMemory
from mmplugins.models.segmentors.aot.settings import SequencePass
from mmplugins.models.segmentors.aot.training import sequence_logits
from tests.models.segmentors.aot.aot_models import clips, moving_masks, tiny_aot

OBJECTS = torch.tensor([2, 1])


def masks(length=4):
    result = moving_masks(length=length)
    result[1] = result[1].clamp(max=1)
    return result


def test_smoke():
    network = tiny_aot().train().network
    logits = sequence_logits(network, clips(length=4), masks(), OBJECTS, SequencePass())
    assert [tuple(x.shape) for x in logits] == [(2, 4, 33, 49)] * 4
    sum(x[:, :2].sum() for x in logits).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_step_by_step():
    """One sample at a time through the network's own methods."""
    network = tiny_aot().eval().network
    frames, truth = clips(length=4), masks()
    with torch.no_grad():
        logits = sequence_logits(network, frames, truth, OBJECTS, SequencePass(gap=2))
        for b in range(2):
            memory = FrameMemory(2)
            for t in range(4):
                features = network.encode(frames[b : b + 1, t])
                if t == 0:
                    outputs, entries = network.reference(features, truth[b : b + 1, 0])
                    memory.add_reference(entries, 0)
                else:
                    outputs, current = network.propagate(features, memory)
                    memory.update(network.fuse(current, truth[b : b + 1, t]), t)
                used = 1 + int(OBJECTS[b])
                expected = network.resize(network.decode(features, outputs)[:, :used], (33, 49))
                torch.testing.assert_close(logits[t][b : b + 1, :used], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    'loss', [TopKCrossEntropyLoss(top_k_percent_pixels=0.15, hard_example_mining_step=0), SoftJaccardLoss()]
)
def test_each_sample_has_its_own_objects(loss):
    """Identities without an object take no part: the batch has the mean of the samples' losses on their own objects."""
    logits = sequence_logits(tiny_aot().eval().network, clips(length=2), masks(2), OBJECTS, SequencePass())[1]
    truth = masks(2)[:, 1]
    own = [loss(logits[b : b + 1, : 1 + OBJECTS[b]], truth[b : b + 1]) for b in range(2)]
    together = loss(logits, truth)
    torch.testing.assert_close(together, torch.stack(own).mean())
    (grad,) = torch.autograd.grad(together, logits, retain_graph=True)
    assert torch.isfinite(grad).all()
    assert grad[1, 2:].abs().max() == 0


def test_own_masks_feed_the_memory():
    """With the truth in place of what was predicted the logits are those of a pass that is fed with the truth."""
    network = tiny_aot().train().network
    frames, truth = clips(length=3), masks(3)
    own = sequence_logits(network, frames, truth, OBJECTS, SequencePass(own_masks=True))
    with torch.no_grad():
        predicted = torch.stack([truth[:, 0], own[1].argmax(1).to(torch.uint8), truth[:, 2]], 1)
        fed = sequence_logits(network, frames, predicted, OBJECTS, SequencePass())
        assert not torch.equal(predicted[:, 1], truth[:, 1])
    for out, other in zip(own, fed, strict=True):
        torch.testing.assert_close(out, other)
    own[2][:, :2].sum().backward()
    assert all(p.grad is None for p in network.identity_bank.parameters())


def test_the_last_mask_is_not_used():
    network = tiny_aot().eval().network
    frames, truth = clips(length=3), masks(3)
    other = truth.clone()
    other[:, 2] = 0
    with torch.no_grad():
        first = sequence_logits(network, frames, truth, OBJECTS, SequencePass(gap=1))
        second = sequence_logits(network, frames, other, OBJECTS, SequencePass(gap=1))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_reference_need_not_be_decoded():
    logits = sequence_logits(
        tiny_aot().network, clips(length=2), masks(2), OBJECTS, SequencePass(decode_reference=False)
    )
    assert logits[0] is None
    assert logits[1] is not None


def test_shuffle_is_a_permutation_of_the_identities(monkeypatch):
    """Shuffled objects give what a network with permuted identities gives to objects in order."""
    slots = torch.tensor([[0, 3, 1, 2]] * 2)
    monkeypatch.setattr(training, 'shuffled_slots', lambda batch, objects, device: slots[:batch])
    frames, truth = clips(length=3), masks(3)
    network, permuted = tiny_aot().eval().network, tiny_aot().eval().network
    with torch.no_grad():
        permuted.identity_bank.conv.weight.copy_(network.identity_bank.conv.weight[:, slots[0]])
        permuted.decoder.out.weight.copy_(network.decoder.out.weight[slots[0]])
        permuted.decoder.out.bias.copy_(network.decoder.out.bias[slots[0]])
        shuffled = sequence_logits(network, frames, truth, OBJECTS, SequencePass(shuffle=True))
        plain = sequence_logits(permuted, frames, truth, OBJECTS, SequencePass())
    for out, other in zip(shuffled, plain, strict=True):
        torch.testing.assert_close(out, other, atol=1e-4, rtol=1e-4)
