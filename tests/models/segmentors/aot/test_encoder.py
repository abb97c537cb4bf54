import pytest
import torch
from mmengine.registry import MODELS

pytest.importorskip('mmseg', reason='the backbones are those of mmseg')

from mmseg.models.backbones import MobileNetV2

from mmplugins.models.segmentors.aot import DilatedMobileNetV2
from mmplugins.models.segmentors.aot.encoder import ImageEncoder


def images(size=(65, 97)):
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))


def test_smoke():
    torch.manual_seed(0)
    backbone = MODELS.build(dict(type='mmplugins.DilatedMobileNetV2'))
    backbone.eval()  # mmseg's MobileNetV2 returns nothing here
    with torch.no_grad():
        levels = backbone(images())
    assert [tuple(x.shape[1:]) for x in levels] == [(24, 17, 25), (32, 9, 13), (96, 5, 7), (1280, 5, 7)]


def test_the_last_stage_is_needed():
    with pytest.raises(ValueError, match=r'out_indices must end with 6, got \(1, 2, 4\)'):
        DilatedMobileNetV2(out_indices=(1, 2, 4))


def test_dilations():
    """The first block of a stage has the dilation of the stage before."""
    backbone = DilatedMobileNetV2()
    dilations = {
        name: [block.conv[-2].conv.dilation[0] for block in getattr(backbone, name)] for name in backbone.layers
    }
    assert dilations['layer5'] == [1, 1, 1]
    assert dilations['layer6'] == [1, 2, 2]
    assert dilations['layer7'] == [2]
    assert all(block.conv[-2].conv.padding == block.conv[-2].conv.dilation for block in backbone.layer6)


def test_without_dilation_it_is_the_parent_and_a_convolution():
    torch.manual_seed(0)
    strides, ours = (1, 2, 2, 2, 1, 2, 1), (1,) * 7
    backbone, parent = DilatedMobileNetV2(strides, ours), MobileNetV2(strides=strides)
    backbone.eval()
    parent.eval()
    state = {name: x for name, x in backbone.state_dict().items() if not name.startswith('conv2.')}
    parent.load_state_dict(state)
    with torch.no_grad():
        *levels, last = backbone(images())
        *expected, deepest = parent(images())
        assert all(torch.equal(x, y) for x, y in zip(levels, expected, strict=True))
        assert torch.equal(last, backbone.conv2(deepest))


def test_frozen_parts():
    """As the config has it: stem and the first two stages fixed, batch norm in evaluation mode everywhere."""
    backbone = DilatedMobileNetV2(frozen_stages=2, norm_cfg=dict(type='BN', requires_grad=False), norm_eval=True)
    trained = [name for name, p in backbone.named_parameters() if p.requires_grad]  # the optimizer is built of these
    backbone.train()
    assert trained == [name for name, p in backbone.named_parameters() if p.requires_grad]
    trained = {name.split('.')[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {'layer3', 'layer4', 'layer5', 'layer6', 'layer7', 'conv2'}
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 52
    assert not any(m.training for m in norms)
    assert not any(p.requires_grad for m in norms for p in m.parameters())


@pytest.mark.parametrize('levels', [3, 4])
def test_three_levels_or_four(levels):
    """Without a fourth level the third is the shortcut at stride 16 and the deepest one."""

    class Backbone(torch.nn.Module):
        def forward(self, x):
            return [x.new_full((len(x), 4, 2, 3), i) for i in range(levels)]

    encoder = ImageEncoder(Backbone(), 4, 8)
    features = encoder(images())
    assert [int(x[0, 0, 0, 0]) for x in features.shortcuts] == [0, 1, 2]
    torch.testing.assert_close(features.embedding, encoder.projector(torch.full((1, 4, 2, 3), levels - 1.0)))
    assert len(features.part(slice(0, 1)).shortcuts) == 3
