"""``kept_pixels`` and ``pixel_weight``, which pictures show: what the losses themselves keep and weigh."""

import pytest
import torch

from mmplugins.functional.pixels.regions import edge_weight
from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.models.losses import OhemCrossEntropyLoss, StructureLoss, TopKCrossEntropyLoss


@pytest.mark.parametrize('upsampled', [False, True])
@pytest.mark.parametrize(
    'loss',
    [
        OhemCrossEntropyLoss(thresh=0.3, min_kept=20),
        OhemCrossEntropyLoss(thresh=0.3, min_kept=40, threshold_stride=2, class_weight=[1.0, 2, 3]),
        TopKCrossEntropyLoss(top_k_percent_pixels=0.2, hard_example_mining_step=0, class_weight=[1.0, 2, 3]),
        TopKCrossEntropyLoss(top_k_percent_pixels=0.2, hard_example_mining_step=10),
    ],
)
def test_kept_pixels_are_those_with_a_loss(loss, upsampled, each_path):
    torch.manual_seed(0)
    logits = 3 * torch.randn(2, 3, 8, 10, dtype=torch.float64)
    if upsampled:
        logits = UpsampledLogits(3 * torch.randn(2, 3, 4, 5), (8, 10), False)
    label = torch.randint(0, 3, (2, 8, 10))
    label[0, :2] = 7
    state = torch.get_rng_state()
    kept = loss.kept_pixels(logits, label, ignore_index=7, step=5)
    assert torch.equal(torch.get_rng_state(), state)
    each = loss(logits, label, reduction_override='none', ignore_index=7, step=5)
    assert kept.dtype == torch.bool
    assert torch.equal(kept, each > 0)
    assert 0 < kept.sum() < kept.numel()


def test_pixel_weight():
    """Pixels that are not valid are background to their neighbours, with weight 0 themselves."""
    mask = torch.zeros(1, 1, 9, 9, dtype=torch.long)
    mask[..., 3:6, 3:6] = 1
    mask[..., :2] = 7
    loss = StructureLoss(kernel_size=3, edge_weight=2.0)
    weight = loss.pixel_weight(mask, ignore_index=7)
    expected = edge_weight((mask[0] == 1).float(), 3, 2.0)
    expected[..., :2] = 0
    assert torch.equal(weight, expected)
    soft = torch.rand(2, 9, 9)
    assert torch.equal(loss.pixel_weight(soft), edge_weight(soft, 3, 2.0))
