"""A head that computes its losses from its own logits is mmseg's head: same parameters, losses, log and training."""

import copy
import pickle

import pytest
import torch
from mmengine.registry import init_default_scope

from mmplugins.hosts import problem_with

if problem := problem_with('mmseg'):
    pytest.skip(problem, allow_module_level=True)

import mmseg
from mmengine.structures import PixelData
from mmengine.utils import digit_version
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmplugins.models.decode_heads.low_resolution_loss import LowResolutionLoss

CE = dict(type='CrossEntropyLoss', avg_non_ignore=True)
WEIGHTS = [0.5, 1.0, 2.0, 0.0, 3.0]
OHEM = dict(type='mmplugins.OhemCrossEntropyLoss', thresh=0.7, min_kept=100)
FCN = dict(type='FCNHead', in_channels=8, channels=8, num_convs=1, num_classes=5, align_corners=True)
LOSSES = {
    'cross entropy': CE,
    'over all pixels': dict(type='CrossEntropyLoss', loss_weight=0.4),
    'class weights': dict(type='CrossEntropyLoss', class_weight=WEIGHTS),
    'sum': dict(type='CrossEntropyLoss', reduction='sum', class_weight=WEIGHTS),
    'none': dict(type='CrossEntropyLoss', reduction='none', class_weight=WEIGHTS),
    'several': [
        *(CE, CE, OHEM),
        dict(type='mmplugins.TopKCrossEntropyLoss', hard_example_mining_step=0, loss_weight=0.5),
        dict(type='mmplugins.SoftJaccardLoss'),
    ],
}


def low_resolution(head: dict) -> dict:
    return {**head, 'type': 'mmplugins.LowResolutionLossHead', 'head': head['type']}


def build(head: dict):
    init_default_scope('mmseg')
    return MODELS.build(head)


def both(head: dict):
    """The plain head and ours, with the same parameters."""
    torch.manual_seed(0)
    plain, ours = build(head), build(low_resolution(head))
    ours.load_state_dict(plain.state_dict(), strict=True)
    return plain.train(), ours.train()


def samples(label):
    return [SegDataSample(gt_sem_seg=PixelData(data=item[None])) for item in label]


def scene(classes=5):
    generator = torch.Generator().manual_seed(0)
    features = 3 * torch.randn(2, 8, 9, 11, generator=generator)
    label = torch.randint(0, classes, (2, 33, 41), generator=generator)
    label[:, :3, 4:] = 255
    return features.requires_grad_(), samples(label)


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('loss', LOSSES)
def test_equals_the_plain_head(loss, align_corners, each_path):
    if loss == 'class weights' and digit_version(mmseg.__version__) < digit_version('1.3'):
        pytest.skip('the cross entropy of mmsegmentation 1.2.2 has no class weight for ignored pixels, and raises')
    plain, ours = both({**FCN, 'loss_decode': LOSSES[loss], 'align_corners': align_corners, 'dropout_ratio': 0})
    features, data = scene()
    expected, found = (head.loss([features], data, None) for head in (plain, ours))
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
        if name != 'acc_seg':
            grads = [torch.autograd.grad(x.sum(), features, retain_graph=True)[0] for x in (found[name], value)]
            assert float((grads[0] - grads[1]).norm()) <= 1e-5 * float(grads[1].norm())
    assert not found['acc_seg'].requires_grad


def test_binary_masks(each_path):
    losses = [dict(type='mmplugins.BCEIoULoss'), dict(type='mmplugins.StructureLoss', kernel_size=5)]
    plain, ours = both({**FCN, 'num_classes': 2, 'out_channels': 1, 'threshold': 0.5, 'loss_decode': losses})
    features, data = scene(classes=2)
    torch.manual_seed(1)
    expected = plain.loss([features], data, None)
    torch.manual_seed(1)
    found = ours.loss([features], data, None)
    assert {'loss_bce_iou', 'loss_structure', 'acc_seg'} == set(found)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_a_head_of_more_than_one_loss():
    """EncHead hands its map to mmseg's BaseDecodeHead and adds a loss of its own."""
    head = dict(type='EncHead', in_channels=[8], in_index=[0], channels=8, num_classes=5, num_codes=4, dropout_ratio=0)
    head['norm_cfg'] = dict(type='BN')
    plain, ours = both(head)
    features, data = scene()
    for sample in data:
        sample.gt_sem_seg.data.clamp_(max=4)
    expected, found = (model.loss([features], data, None) for model in (plain, ours))
    assert set(found) == set(expected) == {'loss_ce', 'acc_seg', 'loss_se'}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_a_class_of_ones_own():
    class MyHead(FCNHead, LowResolutionLoss):
        pass

    settings = {key: value for key, value in FCN.items() if key != 'type'}
    features, data = scene()
    assert {'loss_ce', 'acc_seg'} == set(MyHead(**settings).loss([features], data, None))
    assert type(build({**FCN, 'type': 'mmplugins.LowResolutionLossHead', 'head': MyHead})) is MyHead


def test_copies_and_pickles():
    _, head = both({**FCN, 'dropout_ratio': 0})
    features, data = scene()
    expected = head.loss([features], data, None)['loss_ce']
    for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert type(other) is type(head)
        assert torch.equal(other.loss([features], data, None)['loss_ce'], expected)


def test_autocast_computes_the_loss_in_float32():
    _, head = both({**FCN, 'dropout_ratio': 0})
    features, data = scene()
    logits = head([features]).detach()
    expected = head.loss_by_feat(logits.bfloat16().float(), data)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = head.loss_by_feat(logits.bfloat16(), data)
    assert found['loss_ce'].dtype == torch.float32
    for name, value in expected.items():
        assert torch.equal(found[name], value)


def test_everything_ignored():
    plain, ours = both({**FCN, 'loss_decode': [CE, OHEM]})
    features, data = scene()
    for sample in data:
        sample.gt_sem_seg.data.fill_(255)
    expected, found = (head.loss([features], data, None) for head in (plain, ours))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    sum(found[name] for name in ('loss_ce', 'loss_ohem')).backward()
    assert torch.count_nonzero(features.grad) == 0


def test_wrong_labels_are_named():
    _, head = both(FCN)
    features, data = scene()
    data[0].gt_sem_seg.data[0, 5, 5] = 9
    with pytest.raises(ValueError, match=r'labels hold 9 \(1 pixels\), but there are 5 classes'):
        head.loss([features], data, None)


@pytest.mark.parametrize(
    ('settings', 'error', 'match'),
    [
        (dict(sampler=dict(type='OHEMPixelSampler')), ValueError, 'takes no sampler, .* got OHEMPixelSampler; use'),
        (dict(loss_decode=dict(type='DiceLoss')), TypeError, 'low resolution, and DiceLoss takes none; use'),
        (dict(loss_decode=[CE, dict(type='CrossEntropyLoss', use_sigmoid=True)]), TypeError, 'without use_sigmoid'),
        (dict(head='NoSuchHead'), TypeError, "needs a decode head of mmseg's, got head='NoSuchHead'; name"),
        (dict(head='CrossEntropyLoss'), TypeError, "needs a decode head of mmseg's, got head='CrossEntropyLoss'"),
    ],
)
def test_errors(settings, error, match):
    with pytest.raises(error, match=match):
        build({**low_resolution(FCN), **settings})


def test_a_head_that_goes_its_own_way_raises():
    head = dict(type='DDRHead', in_channels=8, channels=8, num_classes=5, loss_decode=[CE, CE])
    with pytest.raises(TypeError, match='DDRHead upsamples its logits and computes its losses by itself'):
        build(low_resolution(head))


def pspnet(loss, wrap):
    """A tiny PSPNet with an auxiliary head and dropout."""
    init_default_scope('mmseg')
    shared = dict(num_classes=5, norm_cfg=dict(type='BN'), align_corners=True)
    backbone = dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(type='BN'))
    head = dict(type='PSPHead', in_channels=64, in_index=3, channels=8, loss_decode=loss, **shared)
    auxiliary = dict(type='FCNHead', in_channels=32, in_index=2, channels=8, num_convs=1, concat_input=False, **shared)
    auxiliary['loss_decode'] = {**CE, 'loss_weight': 0.4}
    return MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(**backbone, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
            decode_head=wrap(head),
            auxiliary_head=wrap(auxiliary),
        )
    )


@pytest.mark.parametrize('loss', [CE, OHEM, LOSSES['several'][2:]], ids=['ce', 'ohem', 'several'])
@pytest.mark.parametrize(('dtype', 'steps'), [(torch.float32, 12), (torch.float64, 20)], ids=['float32', 'float64'])
def test_a_training_has_the_same_loss_curve(loss, dtype, steps):
    """In float32 rounding grows from step to step: after some 15 the curves part, so that float64 goes on alone."""
    curves = []
    for wrap in (dict, low_resolution):
        torch.manual_seed(0)
        model = pspnet(loss, wrap).to(dtype).train()
        model.init_weights()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        curve = []
        for step in range(steps):
            generator = torch.Generator().manual_seed(step)
            label = torch.randint(0, 5, (2, 6, 7), generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
            image = label[:, None] + 0.3 * torch.randn(2, 3, 48, 56, generator=generator, dtype=dtype)
            label[:, :5] = 255
            total, log = model.parse_losses(model.loss(image, samples(label)))
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            curve.append([float(log[name]) for name in sorted(log) if 'loss' in name])
        curves.append(torch.tensor(curve))
    assert (curves[0][-1] - curves[0][0]).abs().max() > 1e-3  # it trains
    torch.testing.assert_close(curves[1], curves[0], rtol=1e-5, atol=0)
