"""The copy of the network for inference: the same values, and the trained network as it was."""

import copy

import pytest
import torch

pytest.importorskip('mmseg', reason='AOT is built with mmseg')

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmplugins.functional.device import plain_path
from mmplugins.models.segmentors.aot import VideoEngine
from mmplugins.models.segmentors.aot.fusion import copy_modules, inference_network
from tests.models.segmentors.aot.aot_models import clips, configured_aot, moving_masks, samples, tiny_aot


def with_statistics(model):
    """Gives batch norms statistics and factors that are not those of a new one."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.uniform_(-0.5, 0.5, generator=generator)
    return model


def count(module, kind):
    return sum(isinstance(x, kind) for x in module.modules())


def track(network, fast):
    engine = VideoEngine(network, 1, fast=fast)
    frames, mask = clips(length=4)[0], moving_masks()[:1, 0]
    engine.add_reference(frames[:1], mask)
    logits = []
    for frame in frames[1:].split(1):
        logits.append(engine.propagate(frame))
        engine.remember(mask)
    return torch.stack(logits)


@pytest.mark.parametrize('name', ['aot_t', 'aot_r50-l'])
def test_fused_equals_unfused(name):
    network = with_statistics(configured_aot(name)).eval().network
    copied = inference_network(network)
    assert count(network.encoder, _BatchNorm) > 40
    assert count(copied, _BatchNorm) == 0
    image = clips(1, 1, 65, 81)[:, 0]
    with torch.no_grad():
        expected, features = network.encode(image), copied.encode(image)
    for a, b in zip((*expected.shortcuts, expected.embedding), (*features.shortcuts, features.embedding), strict=True):
        assert (a - b).abs().max() < 1e-4 * a.abs().max()


def test_a_video_is_the_same():
    network = with_statistics(tiny_aot()).eval().network
    with plain_path():
        expected = track(network, fast=False)
    torch.testing.assert_close(track(network, fast=True), expected, atol=1e-4, rtol=1e-4)
    with plain_path():  # as on a GPU
        torch.testing.assert_close(track(network, fast=True), expected, atol=1e-4, rtol=1e-4)


def test_the_network_is_not_touched():
    model = with_statistics(tiny_aot(train_cfg=dict(shuffle_identities=False))).eval()
    before = copy.deepcopy(model.state_dict())
    strides = {name: x.stride() for name, x in model.named_parameters()}
    twin = copy.deepcopy(model).train()
    track(model.network, fast=True)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert {name: x.stride() for name, x in model.named_parameters()} == strides
    assert all(x.dilation == (1, 1) for x in model.modules() if isinstance(x, nn.Conv2d) and x.kernel_size == (1, 1))
    gradients = []
    for one in (model.train(), twin):
        sum(one.loss(clips(), samples(moving_masks()), 0).values()).backward()
        gradients.append({name: x.grad for name, x in one.named_parameters()})
    assert all(torch.equal(x, gradients[1][name]) for name, x in gradients[0].items() if x is not None)


def test_the_next_video_has_the_new_weights():
    network = with_statistics(tiny_aot()).eval().network
    first = track(network, fast=True)
    with torch.no_grad():
        network.encoder.backbone.conv1.weight.mul_(2)
    second = track(network, fast=True)
    assert (second - first).abs().max() > 1e-3
    torch.testing.assert_close(second, track(network, fast=False), atol=1e-4, rtol=1e-4)


def test_copied_modules_share_their_tensors():
    network = tiny_aot().network
    copied = copy_modules(network)
    assert copied is not network
    assert copied.lstt is not network.lstt
    assert all(a is b for a, b in zip(network.parameters(), copied.parameters(), strict=True))
    assert all(a is b for a, b in zip(network.buffers(), copied.buffers(), strict=True))


class Crossed(nn.Module):
    """Its batch norms stand behind the convolutions of one another."""

    def __init__(self):
        super().__init__()
        self.a, self.norm_b = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)
        self.b, self.norm_a = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

    def forward(self, x):
        x = self.norm_b(self.b(self.norm_a(self.a(x)).relu())).relu()
        return tuple(nn.functional.avg_pool2d(x, k, k, ceil_mode=True) for k in (4, 8, 16))


def test_modules_that_run_in_another_order_are_not_fused():
    network = tiny_aot().network
    network.encoder.backbone = Crossed()
    network.encoder.projector = nn.Conv2d(8, 32, 1)
    with_statistics(network).eval()
    assert count(inference_network(network), _BatchNorm) == 2


def test_nothing_is_fused_in_training_mode():
    network = tiny_aot().train().network
    assert inference_network(network) is network


def test_autocast_of_a_config():
    model = tiny_aot(test_cfg=dict(autocast='bfloat16')).eval()
    seen = []
    model.network.encoder.projector.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    from tests.models.segmentors.aot.test_segmentor import clip_sample

    model(clips(1, 2), [clip_sample(0, moving_masks()[:1, 0])], mode='predict')
    assert torch.bfloat16 in seen
    with pytest.raises(ValueError, match="autocast is 'bfloat16', 'float16' or None, got 'int8'"):
        tiny_aot(test_cfg=dict(autocast='int8'))
