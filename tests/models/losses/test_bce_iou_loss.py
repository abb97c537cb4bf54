import pytest
import torch
import torch.nn.functional as F

from mmplugins.models.losses import BCEIoULoss, SoftIoULoss
from mmplugins.testing import assert_relative, load_golden
from tests.locations import golden_files
from tests.models.losses.region_contract import RegionLossContract


class TestContract(RegionLossContract):
    loss_type = 'BCEIoULoss'


@pytest.mark.parametrize('path', golden_files('pfnet_losses_*.npz'))
def test_golden(path):
    golden = load_golden(path)
    logits = golden['logits'].requires_grad_()
    value = BCEIoULoss()(logits, golden['mask'])
    value.backward()
    assert_relative(value, golden['bce_iou'], 1e-5, 'loss')
    assert_relative(logits.grad, golden['grad_bce_iou'], 1e-5, 'gradient')


def test_cross_entropy_is_the_mean_over_valid_pixels():
    """Also where images have different numbers of them."""
    logits, mask = TestContract().example()
    valid = mask != 255
    entropy = F.binary_cross_entropy_with_logits(logits[:, 0][valid], mask[valid].float())
    torch.testing.assert_close(BCEIoULoss()(logits, mask) - SoftIoULoss()(logits, mask), entropy)
