import pytest
import torch

from mmplugins.models.losses import SoftIoULoss
from mmplugins.testing import assert_relative, load_golden
from tests.locations import golden_files
from tests.models.losses.region_contract import RegionLossContract


class TestContract(RegionLossContract):
    loss_type = 'SoftIoULoss'


@pytest.mark.parametrize('path', golden_files('pfnet_losses_*.npz'))
def test_golden(path):
    golden = load_golden(path)
    logits = golden['logits'].requires_grad_()
    value = SoftIoULoss()(logits, golden['mask'])
    value.backward()
    assert_relative(value, golden['iou'], 1e-5, 'loss')
    assert_relative(logits.grad, golden['grad_iou'], 1e-5, 'gradient')


def test_by_hand():
    """p = 1/2 at three pixels, mask 1 0 255: I = 1/2, U = 1/2 + 1/2 + 1 - 1/2 = 3/2, so 2/3."""
    assert float(SoftIoULoss()(torch.zeros(1, 1, 1, 3), torch.tensor([[[1, 0, 255]]]))) == pytest.approx(2 / 3)


def test_perfect_prediction_is_zero():
    mask = torch.tensor([[[1, 0, 1, 255]]])
    logits = 100 * (2.0 * (mask == 1) - 1)[:, None]
    assert float(SoftIoULoss()(logits, mask)) == pytest.approx(0, abs=1e-6)


def test_images_without_a_counting_pixel_leave_the_mean():
    logits, mask = TestContract().example()
    mask[1] = 255
    torch.testing.assert_close(SoftIoULoss()(logits, mask), SoftIoULoss()(logits[:1], mask[:1]))
    assert SoftIoULoss()(logits, mask, reduction_override='none')[1] == 0
