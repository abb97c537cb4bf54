import subprocess
import sys

import pytest
import torch

from mmplugins.hosts import install_command
from mmplugins.testing import assert_relative, load_golden
from tests.locations import ROOT, golden_files
from tests.precisions import FLOAT16

pytest.importorskip('mmseg', reason='PFNetHead is a decode head of mmseg')

from mmplugins.models.decode_heads import PFNetHead
from mmplugins.models.losses import BCEIoULoss, SoftIoULoss, StructureLoss
from tests.models.decode_heads.pfnet_models import build, data_samples, filled_pfnet, small_pfnet

MAPS = ('positioning', 'focus3', 'focus2', 'focus1')


def images(*size, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def masks(images_, height, width):
    mask = torch.zeros(images_, height, width, dtype=torch.long)
    mask[:, height // 4 : height // 2, width // 3 : width // 2] = 1
    return mask


@pytest.fixture(scope='module')
def model():
    return small_pfnet().eval()


@pytest.mark.slow
@pytest.mark.parametrize('path', golden_files('pfnet_network.npz'))
def test_golden(path):
    golden = load_golden(path)
    model = filled_pfnet().eval()
    with torch.no_grad():
        features = model.extract_feat(golden['image'])
        maps = model.decode_head.predict_maps(features, golden['image'].shape[2:])
        for prob, key in zip(maps, ('prob4', 'prob3', 'prob2', 'prob1'), strict=True):
            assert_relative(prob, golden[key], 1e-4, key)
        sample = model.predict(golden['image'])[0]  # the last map, as a user gets it
        assert_relative(sample.seg_logits.data, golden['prob1'][0], 1e-4, 'prediction')


@pytest.mark.parametrize('size', [(32, 64), (33, 47), (50, 31), (1, 1), (96, 70)])
def test_any_input_size(model, size):
    """Also sizes whose features are not halved evenly, which the released network cannot take."""
    image = images(2, 3, *size)
    with torch.no_grad():
        maps = model.decode_head.forward_maps(model.extract_feat(image))
        last = model(image)
    expected = [tuple(-(-s // stride) for s in size) for stride in (32, 16, 8, 4)]
    assert [tuple(x.shape) for x in maps] == [(2, 1, *s) for s in expected]
    assert torch.equal(last, maps[-1])
    samples = model.predict(image, data_samples(masks(2, *size), ori_shape=(40, 60)))
    for sample in samples:
        assert sample.seg_logits.shape == sample.pred_sem_seg.shape == (40, 60)
        assert sample.pred_sem_seg.data.unique().tolist() in ([0], [1], [0, 1])


def test_prediction_is_the_thresholded_probability(model):
    image = images(1, 3, 64, 64)
    with torch.no_grad():
        prob = model.decode_head.predict_maps(model.extract_feat(image), (64, 64))[-1]
    sample = model.predict(image)[0]
    torch.testing.assert_close(sample.seg_logits.data, prob[0])
    assert torch.equal(sample.pred_sem_seg.data, (prob[0] > 0.5).float())


def test_slide_inference():
    whole, slide = small_pfnet().eval(), small_pfnet(test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(40, 40)))
    slide.eval().load_state_dict(whole.state_dict())
    image = images(1, 3, 64, 64)
    torch.testing.assert_close(slide.predict(image)[0].seg_logits.data, whole.predict(image)[0].seg_logits.data)
    image = images(1, 3, 90, 120)
    sample = slide.predict(image, data_samples(masks(1, 90, 120)))[0]
    with torch.no_grad():
        corner = whole.decode_head.predict_maps(whole.extract_feat(image[..., :64, :64]), (64, 64))[-1]
    assert sample.seg_logits.shape == (90, 120)
    torch.testing.assert_close(sample.seg_logits.data[:, :26, :40], corner[0, :, :26, :40])  # no other crop is there


@pytest.mark.parametrize(
    ('backbone', 'in_channels'),
    [
        (dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, dilations=(1, 1, 2, 4)), [8, 16, 32, 64]),
        (dict(type='MixVisionTransformer', embed_dims=8, num_heads=[1, 1, 1, 1], num_layers=[1] * 4), [8] * 4),
    ],
)
def test_any_backbone_with_four_stages(backbone, in_channels):
    """One whose last stages keep their size, and one without convolutions of the ResNet kind."""
    if backbone['type'] == 'ResNetV1c':
        backbone['strides'] = (1, 2, 1, 1)
    model = small_pfnet(head=dict(in_channels=in_channels, channels=8), backbone=backbone)
    losses = model.loss(images(2, 3, 64, 96), data_samples(masks(2, 64, 96)))
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.decode_head.parameters())
    assert [r[0].out_channels for r in model.decode_head.reduce] == [8, 16, 32, 64]


def test_losses_of_the_four_maps():
    model = small_pfnet()
    image, mask = images(2, 3, 64, 64), masks(2, 64, 64)
    mask[0, :5] = 255
    features = model.extract_feat(image)
    losses = model.decode_head.loss(features, data_samples(mask), None)
    focus = StructureLoss(variant='released')
    expected = {}
    maps = model.decode_head.forward_maps(features)
    for name, weight, logits in zip(MAPS, (1, 1, 2, 4), maps, strict=True):
        logits = torch.nn.functional.interpolate(logits, (64, 64), mode='bilinear', align_corners=True)
        loss = BCEIoULoss() if name == 'positioning' else focus
        expected[f'{name}.{loss.loss_name}'] = weight * loss(logits, mask)
    assert list(losses) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    total, log = model.parse_losses(model.loss(image, data_samples(mask)))
    assert 'decode.focus1.loss_structure' in log
    torch.testing.assert_close(total, sum(expected.values()))


def test_every_parameter_gets_a_gradient():
    """Or distributed training would stop at the unused ones."""
    model = small_pfnet()
    sum(model.loss(images(2, 3, 64, 64), data_samples(masks(2, 64, 64))).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


def test_losses_come_from_the_config():
    cross_entropy = dict(type='CrossEntropyLoss', use_sigmoid=True)
    losses = [dict(type='mmplugins.SoftIoULoss', loss_weight=2.0), dict(type='mmplugins.SoftIoULoss'), cross_entropy]
    head = dict(loss_decode=losses, loss_positioning=[cross_entropy], map_weights=(1, 0, 0.5, 3))
    model = small_pfnet(head=head)
    image, mask = images(2, 3, 32, 32), masks(2, 32, 32)
    values = model.decode_head.loss(model.extract_feat(image), data_samples(mask))
    assert list(values) == ['positioning.loss_ce'] + [f'{m}.{k}' for m in MAPS[1:] for k in ('loss_iou', 'loss_ce')]
    assert values['focus3.loss_iou'] == 0
    logits = model.decode_head.forward(model.extract_feat(image))
    logits = torch.nn.functional.interpolate(logits, (32, 32), mode='bilinear', align_corners=True)
    torch.testing.assert_close(values['focus1.loss_iou'], 3 * 3 * SoftIoULoss()(logits, mask))
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], mask.float())
    torch.testing.assert_close(values['focus1.loss_ce'], 3 * entropy)


def test_8_bit_masks_are_told():
    with pytest.raises(ValueError, match='hold 0 and 255 but no 1'):
        small_pfnet().loss(images(2, 3, 32, 32), data_samples(255 * masks(2, 32, 32)))


@pytest.mark.parametrize('dtype', [torch.bfloat16, FLOAT16])
def test_attention_under_autocast(dtype):
    """Squares summed over a map overflow float16: 100 ** 2 * 16 > 65504."""
    positioning = small_pfnet().decode_head.positioning
    x = 100 * images(1, 64, 4, 4).abs()
    with torch.no_grad(), torch.autocast('cpu', dtype=dtype):
        features, logits = positioning(x)
    assert torch.isfinite(features).all()
    assert torch.isfinite(logits).all()
    assert_relative(features.float(), positioning(x)[0].detach(), 2e-2, 'features')


def test_float64():
    model = small_pfnet().double().eval()
    assert model(images(1, 3, 32, 32).double()).dtype == torch.float64


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r'needs four stages, got in_channels=\(8, 16, 32\), channels=\(8, 16, 32, 64'):
        PFNetHead([8, 16, 32], 8, in_index=[0, 1, 2])
    with pytest.raises(ValueError, match=r'must be multiples of 8 .*, got \(12, 24, 48, 96\)'):
        PFNetHead([8, 16, 32, 64], 12)
    with pytest.raises(ValueError, match=r'needs num_classes=2, out_channels=1.*got num_classes=19'):
        PFNetHead(num_classes=19)
    with pytest.raises(ValueError, match=r'dropout_ratio=0 .*dropout_ratio=0.1'):
        PFNetHead(dropout_ratio=0.1)
    with pytest.raises(ValueError, match=r"one weight for each of \('positioning', .*\), got \(1, 2\)"):
        PFNetHead(map_weights=(1, 2))
    with pytest.raises(ValueError, match='takes no sampler'):
        PFNetHead([8] * 4, 8, sampler=dict(type='OHEMPixelSampler'))


def test_initialisation():
    """As PyTorch's own: the gates at 1, and nothing fails in init_weights."""
    model = small_pfnet()
    model.init_weights()
    head = model.decode_head
    gates = [head.positioning.channel_gamma, head.positioning.spatial_gamma, head.focus[0].alpha, head.focus[2].beta]
    assert [float(gate.detach()) for gate in gates] == [1, 1, 1, 1]
    assert head.threshold == 0.5
    assert not hasattr(head, 'conv_seg')


def test_head_is_built_from_other_scopes():
    config = dict(type='mmplugins.PFNetHead', in_channels=[8] * 4, channels=8)
    assert isinstance(build(config), PFNetHead)


def test_without_mmseg_the_class_says_what_to_install():
    code = (
        "import sys; sys.modules['mmseg'] = None\n"
        'from mmplugins.registry import MODELS\n'
        "MODELS.build(dict(type='mmplugins.StructureLoss'))\n"
        "MODELS.build(dict(type='mmplugins.PFNetHead'))\n"
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f'PFNetHead needs mmseg: mmseg is not installed; run `{install_command("mmseg")}`' in done.stderr
