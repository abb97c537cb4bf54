import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub

from mmplugins.models.losses import OhemCrossEntropyLoss
from mmplugins.testing import assert_relative, load_golden
from mmplugins.testing.losses import LossContract
from tests.locations import golden_files


class TestContract(LossContract):
    loss_type = 'OhemCrossEntropyLoss'
    settings = dict(thresh=0.4, min_kept=20)


class TestContractFractionAndClassWeight(LossContract):
    loss_type = 'OhemCrossEntropyLoss'
    settings = dict(thresh=0.3, min_kept=0.5, class_weight=[1.0, 0.5, 2.0, 1.0, 3.0])


class TestContractStride(LossContract):
    loss_type = 'OhemCrossEntropyLoss'
    settings = dict(thresh=0.4, min_kept=20, threshold_stride=2)


@pytest.mark.parametrize('path', golden_files('ohem_*.npz'))
def test_golden(path):
    golden = load_golden(path)
    loss = OhemCrossEntropyLoss(thresh=golden['thresh'], min_kept=golden['min_kept'], threshold_stride=golden['factor'])
    logits = golden['logits'].requires_grad_()
    value = loss(logits, golden['label'])
    value.backward()
    assert_relative(value, golden['loss'], 1e-5, 'loss')
    assert_relative(logits.grad, golden['grad'], 1e-5, 'gradient')


def case():
    return TestContract().example()


def test_threshold_one_is_cross_entropy():
    logits, label = case()
    expected = F.cross_entropy(logits, label, ignore_index=255)
    torch.testing.assert_close(OhemCrossEntropyLoss(thresh=1.0, min_kept=1)(logits, label), expected)
    torch.testing.assert_close(OhemCrossEntropyLoss(thresh=0.1, min_kept=10**6)(logits, label), expected)


def test_class_weight_scales_the_mean_not_the_selection():
    logits, label = case()
    weight = torch.tensor([1.0, 0.0, 2.0, 5.0, 0.3])
    plain = OhemCrossEntropyLoss(thresh=0.3, min_kept=10)(logits, label, reduction_override='none')
    kept = torch.where(plain > 0, label, 255)
    expected = F.cross_entropy(logits, kept, weight=weight, ignore_index=255)
    torch.testing.assert_close(
        OhemCrossEntropyLoss(thresh=0.3, min_kept=10, class_weight=weight.tolist())(logits, label), expected
    )


def test_class_weight_from_a_file(tmp_path):
    path = tmp_path / 'weights.json'
    path.write_text('[1.0, 0.0, 2.0, 5.0, 0.3]')
    logits, label = case()
    expected = OhemCrossEntropyLoss(thresh=0.3, min_kept=10, class_weight=[1.0, 0.0, 2.0, 5.0, 0.3])(logits, label)
    assert OhemCrossEntropyLoss(thresh=0.3, min_kept=10, class_weight=str(path))(logits, label) == expected


def test_pixel_weight_by_hand():
    """Two pixels with logits 0, 0: loss ln 2 each; weights 3 and 1 give (3 + 1) ln 2 / 2 kept pixels."""
    logits, label = torch.zeros(1, 2, 1, 2), torch.zeros(1, 1, 2, dtype=torch.long)
    value = OhemCrossEntropyLoss()(logits, label, weight=torch.tensor([[[3.0, 1.0]]]))
    assert float(value) == pytest.approx(2 * 0.6931472)


def test_fraction_keeps_that_many():
    logits, label = case()
    kept = OhemCrossEntropyLoss(thresh=0.0, min_kept=0.25)(logits, label, reduction_override='none') > 0
    valid = int((label != 255).sum())
    assert int(kept.sum()) == -(-valid // 4)


def test_not_kept_pixels_have_no_gradient():
    logits, label = case()
    logits.requires_grad_()
    elements = OhemCrossEntropyLoss(thresh=0.2, min_kept=5)(logits, label, reduction_override='none')
    elements.sum().backward()
    dropped = (elements == 0)[:, None].expand_as(logits)
    assert dropped.any()
    assert torch.count_nonzero(logits.grad[dropped]) == 0
    assert torch.count_nonzero(logits.grad[~dropped]) == (~dropped).sum()


def test_logs_the_kept_fraction_when_training():
    logits, label = case()
    hub = MessageHub.get_instance('test_logs_the_kept_fraction')
    loss = OhemCrossEntropyLoss(thresh=0.0, min_kept=0.25)
    loss.eval()
    loss(logits, label)
    assert 'train/ohem_kept' not in hub.log_scalars
    loss.train()
    loss(logits, label)
    assert hub.get_scalar('train/ohem_kept').current() == pytest.approx(0.25, abs=0.01)


def test_each_loss_logs_under_its_own_name():
    hub = MessageHub.get_instance('test_each_loss_logs')
    OhemCrossEntropyLoss(thresh=0.0, min_kept=0.5, loss_name='loss_aux_ohem')(*case())
    assert hub.get_scalar('train/aux_ohem_kept').current() == pytest.approx(0.5, abs=0.01)
    assert 'train/ohem_kept' not in hub.log_scalars


def test_without_an_ignored_label():
    logits, label = case()
    label = label.masked_fill(label == 255, 0)
    expected = F.cross_entropy(logits, label)
    loss = OhemCrossEntropyLoss(thresh=1.0, ignore_index=None)
    torch.testing.assert_close(loss(logits, label), expected)
    with pytest.raises(ValueError, match=r'labels hold 255 .* must lie in 0..4; check'):
        loss(*case())
    with pytest.raises(ValueError, match=r'labels hold -1'):
        loss(logits, label.masked_fill(label == 0, -1))


def test_stride_as_a_float_is_the_same_stride():
    logits, label = case()
    expected = OhemCrossEntropyLoss(thresh=0.1, min_kept=20, threshold_stride=2)(logits, label)
    assert OhemCrossEntropyLoss(thresh=0.1, min_kept=20, threshold_stride=2.0)(logits, label) == expected


def test_holds_nothing_in_a_checkpoint_and_can_be_copied():
    loss = OhemCrossEntropyLoss(class_weight=[1.0, 2.0])
    assert loss.state_dict() == {}
    torch.testing.assert_close(copy.deepcopy(loss).class_weight, loss.class_weight)
    assert 'min_kept=100000' in repr(loss)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(thresh=1.5), r'thresh is a probability in \[0, 1\], got 1.5; the usual value is 0.7'),
        (dict(min_kept=-1), r'min_kept is a count of pixels of the whole batch or a fraction in \(0, 1\)'),
        (dict(min_kept=1.5), r'of them, got 1.5'),
        (dict(min_kept=0.0), r'of them, got 0.0'),
        (dict(threshold_stride=0), 'threshold_stride is a positive integer, got 0; 1 searches all pixels'),
        (
            dict(class_weight=[1.0, -1.0]),
            r'class_weight must be a list of finite, non-negative numbers, one a class, got',
        ),
        (dict(class_weight=[1.0, float('inf')]), r'class_weight must be a list of finite, non-negative numbers'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        OhemCrossEntropyLoss(**settings)


def test_bad_calls():
    logits, label = case()
    with pytest.raises(ValueError, match='class_weight has 2 entries, but the logits have 5 classes'):
        OhemCrossEntropyLoss(class_weight=[1.0, 2.0])(logits, label)
    with pytest.raises(ValueError, match=r'labels hold 5 \(.* pixels\), but there are 5 classes'):
        OhemCrossEntropyLoss()(logits, label.masked_fill(label == 0, 5))
    with pytest.raises(ValueError, match='expected a weight for each pixel'):
        OhemCrossEntropyLoss()(logits, label, weight=torch.ones(3))
    with pytest.raises(ValueError, match='squeeze a channel axis of the label'):
        OhemCrossEntropyLoss()(logits, label[:, None])


def test_whole_number_as_float_is_a_count():
    assert OhemCrossEntropyLoss(min_kept=1e5).min_kept == 100000


def test_one_channel_is_refused():
    """Its softmax is 1: loss and gradient would be 0 for ever, whatever the labels."""
    label = torch.zeros(2, 4, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=r'two classes or more, got \(2, 1, 4, 5\).* num_classes=2 .*StructureLoss'):
        OhemCrossEntropyLoss()(torch.randn(2, 1, 4, 5), label)
