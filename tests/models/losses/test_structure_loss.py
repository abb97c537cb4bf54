import pytest
import torch

from mmplugins.functional.pixels.regions import structure_loss
from mmplugins.models.losses import BCEIoULoss, StructureLoss
from mmplugins.testing import assert_relative, load_golden
from tests.locations import golden_files
from tests.models.losses.region_contract import RegionLossContract


class TestPaper(RegionLossContract):
    loss_type = 'StructureLoss'
    settings = {'kernel_size': 5}


class TestReleased(RegionLossContract):
    loss_type = 'StructureLoss'
    settings = {'kernel_size': 5, 'variant': 'released'}


@pytest.mark.parametrize('variant', ['paper', 'released'])
@pytest.mark.parametrize('path', golden_files('pfnet_losses_*.npz'))
def test_golden(path, variant):
    golden = load_golden(path)
    logits = golden['logits'].requires_grad_()
    value = StructureLoss(variant=variant)(logits, golden['mask'])
    value.backward()
    assert_relative(value, golden[f'structure_{variant}'], 1e-5, 'loss')
    assert_relative(logits.grad, golden[f'grad_structure_{variant}'], 1e-5, 'gradient')


def test_settings_reach_the_formula():
    logits, mask = TestPaper().example()
    value = StructureLoss(kernel_size=7, edge_weight=2.0, variant='released')(logits, mask.clamp(max=1))
    expected = structure_loss(logits[:, 0], mask.clamp(max=1), None, 7, 2.0, 'released').mean()
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize('variant', ['paper', 'released'])
def test_without_edge_weight_it_is_bce_and_iou(variant):
    logits, mask = TestPaper().example()
    mask = mask.clamp(max=1)
    value = StructureLoss(edge_weight=0, variant=variant)(logits, mask)
    torch.testing.assert_close(value, BCEIoULoss()(logits, mask))


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"variant must be one of \('paper', 'released'\), got 'f3net'"):
        StructureLoss(variant='f3net')
    with pytest.raises(ValueError, match='kernel_size must be odd and positive, so that a window has a centre, got 30'):
        StructureLoss(kernel_size=30)
    with pytest.raises(ValueError, match='edge_weight must not be negative, got -1; 0 weighs all pixels the same'):
        StructureLoss(edge_weight=-1)


def test_repr_shows_the_settings():
    assert "kernel_size=31, edge_weight=5.0, variant='paper', loss_weight=1.0" in repr(StructureLoss())
