import subprocess
import sys

import pytest
import torch
from mmengine.structures import PixelData

from mmplugins.testing import assert_relative
from tests.locations import ROOT

pytest.importorskip('mmseg', reason='the heads stand on those of mmseg')
pytest.importorskip('mmdet', reason='the heads stand on those of mmdet')

from mmseg.structures import SegDataSample

from mmplugins.models.decode_heads import Mask2FormerSegHead, MaskFormerSegHead
from tests.models.mask_models import build, features, head_config, predictions, small_head

MODELS = pytest.mark.parametrize('model', ['Mask2Former', 'MaskFormer'])


def sample(classes=(0, 2, 5), height=64, width=96, border=8, **meta):
    """mmseg's data sample: upright stripes of classes, with a border without a label."""
    label = torch.full((1, height, width), 255)
    for index, value in enumerate(classes):
        left = index * width // len(classes)
        label[:, border:, left : left + width // len(classes)] = value
    meta = dict(img_shape=(height, width), pad_shape=(height, width), ori_shape=(height, width)) | meta
    return SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=meta)


def head(model, ours=True, **settings):
    return small_head(model, ours, semantic=True, **settings)


def predicted(one, model, outputs):
    """Makes a head predict what is given, in the form in which it does."""
    as_given = outputs if model == 'MaskFormer' else [list(part) for part in outputs]
    one.forward = lambda x, batch_data_samples: tuple(as_given)
    return one


def test_the_heads_are_the_registered_ones():
    assert type(head('Mask2Former')) is Mask2FormerSegHead
    assert type(head('MaskFormer')) is MaskFormerSegHead


@MODELS
def test_one_class_is_refused(model):
    """Labels 255 and 0, as reduce_zero_label leaves them of a binary mask: mmseg raises at the first test."""
    with pytest.raises(
        ValueError, match=r'SegHead tells classes apart .* got num_classes=1; .*num_classes=2, reduce_z'
    ):
        head(model, classes=(1, 0))
    assert head(model, classes=(2, 0)).num_classes == 2


@MODELS
def test_losses_have_the_names_of_the_toolbox(model):
    samples = [sample(), sample((1,))]
    ours, theirs = (one.loss(features(), samples, {}) for one in (head(model), head(model, ours=False)))
    assert list(ours) == [*theirs, 'class_error']
    assert_relative(ours['d0.loss_cls'], theirs['d0.loss_cls'].detach(), 0.2)  # the matching is drawn


@MODELS
def test_a_label_that_is_no_class_names_the_image(model):
    message = r'b.jpg has the labels \[6, 9\], but there are 6 classes, .* or be ignore_index=255; check num_classes'
    with pytest.raises(ValueError, match=message):
        head(model).loss(features(), [sample(), sample((9, 1, 6), img_path='b.jpg')], {})


@MODELS
def test_outputs_and_weights_are_the_toolboxes(model):
    ours, theirs = head(model), head(model, ours=False)
    theirs.load_state_dict(ours.state_dict())
    assert (ours.num_classes, ours.out_channels, ours.align_corners) == (6, 6, False)
    padded = {'pad_shape': (72, 96)} if model == 'Mask2Former' else {}  # mmseg's MaskFormer predicts without padding
    for meta in ({}, padded):
        metas = [sample(**meta).metainfo for _ in range(2)]
        with torch.no_grad():
            prediction = ours.predict(features(), metas, {})
            assert torch.equal(prediction, theirs.predict(features(), metas, {}))
        assert prediction.shape[:2] == (2, 6)


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name).sum()


@MODELS
def test_targets_are_the_toolboxes_as_bool(model):
    samples = [sample((5, 0, 2)), sample((255,)), sample((1,))]
    theirs, _ = head(model, False)._seg_data_to_instance_data(samples)
    for one, other in zip(head(model).targets(samples), theirs, strict=True):
        order = other.labels.argsort()
        assert one['masks'].dtype == torch.bool
        assert torch.equal(one['labels'], other.labels[order])
        assert torch.equal(one['masks'].long(), other.masks[order])


def test_maskformer_equals_the_toolbox():
    """Losses and gradients, to 5e-5; an image without a label among them."""
    samples, outputs = [sample(), sample((255,)), sample((1, 4))], predictions(batch=3)
    found = []
    for ours in (True, False):
        losses = predicted(head('MaskFormer', ours), 'MaskFormer', outputs).loss(features(3), samples, {})
        found.append((losses, torch.autograd.grad(total(losses), outputs)))
    for name, value in found[1][0].items():
        assert_relative(found[0][0][name], value.detach().squeeze(), 1e-5, name)
    for first, second in zip(found[0][1], found[1][1], strict=True):
        assert_relative(first, second, 5e-5)


@MODELS
@pytest.mark.parametrize('ignore_index', [255, 3])
def test_ignored_pixels_change_nothing(model, ignore_index):
    """Neither losses nor gradients nor matching; with another index, 255 is no class."""
    one = head(model, ignore_aware=True, ignore_index=ignore_index)
    samples = [sample(border=24), sample((1, ignore_index))]
    for each in samples:
        label = each.gt_sem_seg.data
        label[label == 255] = ignore_index
    valid = torch.stack([each.gt_sem_seg.data[0] != ignore_index for each in samples])
    seen = torch.nn.functional.max_pool2d(valid[:, None].float(), 4)[:, 0].bool()  # (B, 16, 24)
    logits, masks = predictions()
    hidden = ~seen[None, :, None].expand_as(masks)
    changed = torch.where(hidden, 20 * torch.randn(masks.shape), masks).detach().requires_grad_()
    found = []
    for given in (masks, changed):
        torch.manual_seed(0)
        losses = predicted(one, model, (logits, given)).loss(features(), samples, {})
        found.append((losses, torch.autograd.grad(total(losses), [logits, given])))
    for name, value in found[0][0].items():
        assert torch.equal(value, found[1][0][name]), name
    for first, second in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(first, second)
    assert 0.3 < hidden.float().mean() < 0.7
    assert (found[0][1][1][hidden] == 0).all()


@MODELS
def test_a_batch_without_labels(model):
    one, (logits, masks) = head(model, ignore_aware=True), predictions()
    losses = predicted(one, model, (logits, masks)).loss(features(), [sample((255,)), sample((255,))], {})
    assert float(losses['loss_mask'].detach()) == 0
    for gradient in torch.autograd.grad(sum(losses.values()), [logits, masks]):
        assert torch.isfinite(gradient).all()


def test_images_of_different_sizes_in_either_order():
    """The first image's size is not the padded one's: MaskFormer's losses do not depend on the order."""
    small, large = sample(img_shape=(40, 56)), sample((1, 4))
    x, one = features(), head('MaskFormer').eval()
    one.criterion.eval()
    first = one.loss(x, [small, large], {})
    second = one.loss([level.flip(0) for level in x], [large, small], {})
    for name, value in first.items():
        assert_relative(second[name].detach(), value.detach(), 1e-5, name)


def small_segmentor(model, **more):
    """An EncoderDecoder on a narrow ResNet-18."""
    settings = head_config(model, semantic=True, num_points=256, **more)
    backbone = dict(type='mmseg.ResNet', depth=18, base_channels=8, stem_channels=8, out_indices=(0, 1, 2, 3))
    backbone.update(strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), norm_cfg=dict(type='BN'))
    preprocessor = dict(type='mmseg.SegDataPreProcessor', size=(64, 96), seg_pad_val=255)
    return build(
        dict(
            type='mmseg.EncoderDecoder',
            data_preprocessor=preprocessor,
            backbone=backbone,
            decode_head=settings,
            train_cfg={},
            test_cfg=dict(mode='whole'),
        ),
        'mmseg',
    )


@pytest.mark.slow
@MODELS
@pytest.mark.parametrize('ignore_aware', [False, True])
def test_training_steps(model, ignore_aware):
    """The loss falls, in a segmentor from mmseg, on an image smaller than the padded input; it predicts a map."""
    segmentor = small_segmentor(model, ignore_aware=ignore_aware)
    segmentor.init_weights()
    label = sample((0, 3), height=56).gt_sem_seg.data
    image = torch.where(label == 0, 1.0, -1.0).expand(3, -1, -1) + 0.1 * torch.randn(3, 56, 96)
    optimizer = torch.optim.AdamW(segmentor.parameters(), 2e-3)
    history = []
    for _ in range(24):
        torch.manual_seed(0)
        samples = [sample((0, 3), height=56) for _ in range(2)]
        batch = segmentor.data_preprocessor(dict(inputs=[image, image], data_samples=samples), training=True)
        losses = segmentor.loss(**batch)
        total, log = segmentor.parse_losses(losses)
        assert all(torch.isfinite(value).all() for value in log.values())
        history.append(float(total.detach()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert history[-1] < 0.8 * history[0]
    segmentor.eval()
    with torch.no_grad():
        batch = segmentor.data_preprocessor(dict(inputs=[image], data_samples=[sample((0, 3), height=56)]))
        prediction = segmentor.predict(**batch)[0]
    assert prediction.pred_sem_seg.data.shape == (1, 56, 96)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('missing', 'name', 'message'),
    [
        ('mmdet', 'Mask2FormerSegHead', 'Mask2FormerSegHead needs mmdet: mmdet is not installed; run'),
        ('mmseg', 'MaskFormerSegHead', 'MaskFormerSegHead needs mmseg: mmseg is not installed; run'),
    ],
)
def test_without_a_host_the_class_says_what_to_install(missing, name, message):
    """And without mmdet PFNetHead is built all the same."""
    other = "MODELS.build(dict(type='mmplugins.PFNetHead', in_channels=[8] * 4, channels=8))\n"
    code = (
        f"import sys; sys.modules['{missing}'] = None\n"
        'from mmplugins.registry import MODELS\n'
        f'{other if missing == "mmdet" else ""}'
        f"MODELS.build(dict(type='mmplugins.{name}'))\n"
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert message in done.stderr
