import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmplugins.testing import assert_relative, load_golden
from tests.locations import ROOT, golden_files

pytest.importorskip('mmseg', reason='FPNSegmentationHead is a decode head of mmseg')

from mmplugins.conversion.convert import rename_tensors
from mmplugins.models.decode_heads import FPNSegmentationHead
from mmplugins.models.layers.fpn_decoder import FPNDecoder
from tests.models.decode_heads.pfnet_models import data_samples
from tools.model_converters.aot import decoder_table

SIZES = ((17, 25), (9, 13), (5, 7), (5, 7))  # of strides 4, 8, 16 and 16 at 65x97


def head(in_channels=(8, 12, 24, 32), channels=32, num_classes=5, seed=0, **settings):
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return FPNSegmentationHead(in_channels, channels, num_classes=num_classes, **settings)


def features(in_channels=(8, 12, 24, 32), sizes=SIZES, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, c, *s, generator=generator).to(dtype) for c, s in zip(in_channels, sizes, strict=True)]


def golden_inputs(golden):
    shortcuts = [golden[f'shortcut{i}'] for i in range(4)]
    inputs = [golden[f'input{i}'] for i in range(4)]
    return inputs if golden['decode_intermediate_input'] else inputs[-1:], shortcuts[:3]


def golden_state(golden):
    released = {key.removeprefix('state.'): value for key, value in golden.items() if key.startswith('state.')}
    return rename_tensors(released, decoder_table())


def test_smoke():
    model = head()
    logits = model(features())
    assert logits.shape == (2, 5, 17, 25)
    losses = model.loss(features(), data_samples(torch.randint(0, 5, (2, 65, 97))), None)
    losses['loss_ce'].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"four levels and input_transform='multiple_select', got in_channels=\(8, 12"):
        head((8, 12, 24))
    with pytest.raises(ValueError, match=r"four levels .* got .*input_transform='resize_concat'"):
        head(input_transform='resize_concat')
    with pytest.raises(ValueError, match=r'channels // 2 = 20 channels, which the 8 groups .* a multiple of 16'):
        head(channels=40)
    with pytest.raises(ValueError, match=r'strides 4, 8 and 16, hence three channels, got \(8, 12\)'):
        FPNDecoder(32, (8, 12))


@pytest.mark.parametrize('sizes', [SIZES, ((64, 48), (32, 24), (16, 12), (8, 6)), ((1, 1), (1, 1), (1, 1), (1, 1))])
def test_any_sizes(sizes):
    """Also a last level of stride 32, which is resized to the one of stride 16."""
    assert head()(features(sizes=sizes)).shape == (2, 5, *sizes[0])


@pytest.mark.parametrize('path', golden_files('fpn_head_*.npz'))
def test_golden_decoder(path):
    golden = load_golden(path)
    inputs, shortcuts = golden_inputs(golden)
    decoder = FPNDecoder(
        golden['in_dim'],
        [x.shape[1] for x in shortcuts],
        golden['hidden_dim'],
        golden['out_dim'],
        align_corners=golden['align_corners'],
    )
    decoder.load_state_dict(golden_state(golden))
    with torch.no_grad():
        assert_relative(decoder(inputs, shortcuts), golden['output'], 1e-5, 'logits')


@pytest.mark.parametrize('path', golden_files('fpn_head_*.npz'))
def test_golden_head(path):
    """The head's fourth level is what the released decoder takes as inputs."""
    golden = load_golden(path)
    inputs, shortcuts = golden_inputs(golden)
    levels = [*shortcuts, torch.cat(inputs, 1)]
    model = head(
        [x.shape[1] for x in levels], golden['hidden_dim'], golden['out_dim'], align_corners=golden['align_corners']
    )
    state = {f'decoder.{name}': value for name, value in golden_state(golden).items()}
    model.load_state_dict({name.replace('decoder.out.', 'conv_seg.'): value for name, value in state.items()})
    with torch.no_grad():
        assert_relative(model(levels), golden['output'], 1e-5, 'logits')


def test_align_corners_is_passed_on():
    inputs = features()
    aligned, other = head(), head(align_corners=False)
    other.load_state_dict(aligned.state_dict())
    assert aligned.decoder.align_corners
    assert not torch.allclose(aligned(inputs), other(inputs))


def test_other_levels_norms_and_dropout():
    settings = dict(in_index=(1, 2, 3, 4), norm_cfg=dict(type='BN'), act_cfg=dict(type='GELU'), dropout_ratio=0.5)
    model = head(channels=18, **settings)
    inputs = [torch.zeros(2, 3, 33, 49), *features()]
    assert model(inputs).shape == (2, 5, 17, 25)
    assert isinstance(model.decoder.reduce.bn, torch.nn.BatchNorm2d)
    assert model.decoder.reduce.conv.bias is None
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))


def test_initialisation():
    """Xavier: uniform within sqrt(6 / (fan in + fan out))."""
    model = head()
    model.init_weights()
    weight = model.decoder.fuse[2].conv.weight
    bound = (6 / (2 * 32 * 9)) ** 0.5
    assert 0.9 * bound < weight.abs().max() <= bound
    assert model.conv_seg.weight.std() > 0.1


def test_gradcheck():
    decoder = FPNDecoder(6, (2, 3, 4), 16, 2).double()
    sizes = ((5, 4), (3, 2), (2, 1), (2, 1))
    inputs = [x.requires_grad_() for x in features((2, 3, 4, 6), sizes, torch.float64)]
    assert torch.autograd.gradcheck(lambda *x: decoder([x[3]], x[:3]), inputs)


def test_autocast():
    model = head().eval()
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        logits = model(features())
    assert logits.dtype == torch.bfloat16
    with torch.no_grad():
        assert_relative(logits.float(), model(features()), 3e-2, 'logits')


@pytest.mark.parametrize('backbone', ['MobileNetV2', 'ResNet'])
def test_in_a_segmentor(backbone):
    config = Config.fromfile(ROOT / 'configs/_base_/models/fpn-head_mobilenetv2.py').model
    if backbone == 'ResNet':
        config.backbone = dict(type='ResNet', depth=18, base_channels=8)
        config.decode_head.in_channels = [8, 16, 32, 64]
        config.auxiliary_head.in_channels = 32
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config).eval()
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        levels = model.extract_feat(image)
        assert [tuple(x.shape[2:]) for x in levels[:3]] == [(17, 25), (9, 13), (5, 7)]
        assert model.predict(image)[0].seg_logits.shape == (65, 97)
