import pytest
import torch

pytest.importorskip('mmseg', reason='AOT is built with mmseg')

from mmplugins.models.segmentors.aot.memory import FrameMemory
from tests.models.segmentors.aot.aot_models import clips, configured_aot, moving_masks, tiny_aot


def test_smoke():
    network = tiny_aot().eval().network
    frames, masks = clips(), moving_masks()
    features = network.encode(frames[:, 0])
    assert features.embedding.shape == (2, 32, 3, 4)
    outputs, entries = network.reference(features, masks[:, 0])
    assert network.decode(features, outputs).shape == (2, 4, 9, 13)
    memory = FrameMemory()
    memory.add_reference(entries, 0)
    features = network.encode(frames[:, 1])
    outputs, current = network.propagate(features, memory)
    logits = network.decode(features, outputs)
    assert network.resize(logits, (33, 49)).shape == (2, 4, 33, 49)
    memory.update(network.fuse(current, masks[:, 1]), 1)
    assert memory.num_frames == 1


@pytest.mark.parametrize(
    ('align_corners', 'size', 'fitting'),
    [(True, (33, 50), '33x49'), (True, (480, 854), '481x849'), (False, (32, 40), '32x32'), (True, (3, 4), '17x17')],
)
def test_sizes(align_corners, size, fitting):
    network = tiny_aot(align_corners=align_corners).network
    kind = r'16 k \+ 1' if align_corners else '16 k'
    message = rf'height and width are {kind}, got {size[0]}x{size[1]}; resize or pad them to {fitting}'
    with pytest.raises(ValueError, match=message):
        network.encode(torch.zeros(1, 3, *size))
    fit = network.fitting_size(size)
    assert network.fitting_size(fit) == fit
    network.encode(torch.zeros(1, 3, *fit))


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r'hence four; got \(8, 16, 32\)'):
        tiny_aot(in_channels=(8, 16, 32))
    with pytest.raises(ValueError, match='num_heads must divide the channels, got 5 heads for 32 channels'):
        tiny_aot(num_heads=5)


def test_the_network_keeps_no_state():
    """A second pass through the same calls gives the same, whatever came between."""
    network = tiny_aot().eval().network
    frames, masks = clips(), moving_masks()

    def run(clip, mask):
        features = network.encode(clip[:, 0])
        memory = FrameMemory()
        memory.add_reference(network.reference(features, mask[:, 0])[1], 0)
        features = network.encode(clip[:, 1])
        return network.decode(features, network.propagate(features, memory)[0])

    with torch.no_grad():
        first = run(frames, masks)
        run(clips(seed=1), masks.flip(3))
        assert torch.equal(run(frames, masks), first)


def test_frozen_identities():
    network = tiny_aot().network
    features = network.encode(clips()[:, 0])
    outputs, _ = network.reference(features, moving_masks()[:, 0], freeze_identities=True)
    outputs[0].sum().backward()
    assert all(p.grad is None for p in network.identity_bank.parameters())
    assert network.lstt.blocks[0].value.weight.grad is not None


def test_autocast():
    network = tiny_aot().eval().network
    with torch.no_grad():
        features = network.encode(clips()[:, 0])
        expected = network.decode(features, network.reference(features, moving_masks()[:, 0])[0])
        with torch.autocast('cpu', dtype=torch.bfloat16):
            features = network.encode(clips()[:, 0])
            logits = network.decode(features, network.reference(features, moving_masks()[:, 0])[0])
    torch.testing.assert_close(logits.float(), expected, atol=0.2, rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('config', 'parameters'),  # millions, as the authors' model zoo has them
    [('aot_t', 5.7), ('aot_s', 7.0), ('aot_b', 8.3), ('aot_l', 8.3), ('aot_r50-l', 14.9), ('aot_swinb-l', 65.4)],
)
def test_shipped_models(config, parameters):
    model = configured_aot(config).eval()
    network = model.network
    size = network.fitting_size((64, 80))
    masks = torch.zeros(1, *size, dtype=torch.long)
    masks[:, 10:40, 20:50] = 1
    with torch.no_grad():
        features = network.encode(torch.zeros(1, 3, *size))
        logits = network.decode(features, network.reference(features, masks)[0])
    more = size[1] % 16
    strides = [(size[1] - more) / (x.shape[3] - more) for x in (*features.shortcuts, features.embedding)]
    assert strides == [4, 8, 16, 16]
    assert logits.shape == (1, 11, *features.shortcuts[0].shape[2:])
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    frozen = sum(p.numel() for m in norms for p in m.parameters())  # buffers in the released code
    assert sum(p.numel() for p in model.parameters()) - frozen == pytest.approx(1e6 * parameters, rel=0.01)
