import pytest
import torch

from mmplugins.models.losses import SoftJaccardLoss
from mmplugins.testing import assert_relative, load_golden
from mmplugins.testing.losses import LossContract
from tests.locations import golden_files


class TestContract(LossContract):
    loss_type = 'SoftJaccardLoss'


@pytest.mark.parametrize('path', golden_files('aot_losses_*.npz'))
def test_golden(path):
    golden = load_golden(path)
    samples = [(golden[f'logits{j}'].requires_grad_(), golden[f'label{j}']) for j in range(3)]
    values = torch.stack([SoftJaccardLoss()(logits, label) for logits, label in samples])
    values.mean().backward()
    assert_relative(values, golden['loss_jaccard'], 1e-5, 'loss')
    for j, (logits, _) in enumerate(samples):
        assert_relative(logits.grad, golden[f'grad_jaccard{j}'], 1e-5, f'gradient of sample {j}')


def test_by_hand():
    """Two pixels, two classes, p = 1/2 everywhere.

    Labels 0, 1: I = 1/2 and U = 1 + 1 - 1/2 = 3/2 for both classes, so 1 - 1/3.
    Labels 0, 255: sums over the first pixel: I = 1/2, U = 1/2 + 1 - 1/2 = 1 for class 0 alone, so 1/2.
    """
    logits = torch.zeros(2, 2, 1, 2)
    label = torch.tensor([[[0, 1]], [[0, 255]]])
    values = SoftJaccardLoss()(logits, label, reduction_override='none')
    assert values.tolist() == pytest.approx([2 / 3, 1 / 2])


def test_perfect_prediction_is_zero():
    label = torch.tensor([[[0, 1, 2, 255]]])
    logits = 100 * torch.nn.functional.one_hot(label.clamp(max=2), 3).permute(0, 3, 1, 2).float()
    assert float(SoftJaccardLoss()(logits, label)) == pytest.approx(0, abs=1e-6)


def test_ignored_pixels_change_nothing():
    logits, label = TestContract().example()
    changed = logits.clone()
    changed[(label == 255)[:, None].expand_as(logits)] += 3
    assert SoftJaccardLoss()(changed, label) == SoftJaccardLoss()(logits, label)


def test_weight_counts_pixels_twice():
    """A pixel of weight 2 is worth two pixels."""
    logits, label = TestContract().example()
    doubled = SoftJaccardLoss()(torch.cat([logits, logits[:, :, :3]], 2), torch.cat([label, label[:, :3]], 1))
    weight = torch.ones(label.shape)
    weight[:, :3] = 2
    torch.testing.assert_close(SoftJaccardLoss()(logits, label, weight=weight), doubled)


def test_one_channel_is_refused():
    """Its softmax is 1: loss and gradient would be 0 for ever, whatever the labels."""
    label = torch.zeros(2, 4, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=r'two classes or more, got \(2, 1, 4, 5\).* num_classes=2 .*StructureLoss'):
        SoftJaccardLoss()(torch.randn(2, 1, 4, 5), label)
