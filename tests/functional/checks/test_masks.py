import pytest
import torch

from mmplugins.functional.checks.masks import check_mask_logits, check_mask_values, check_masks, check_valid
from mmplugins.functional.device import DeferredReads

MASKS = [torch.zeros(count, 8, 8, dtype=torch.bool) for count in (2, 0, 3)]


def test_masks_must_have_the_size_of_the_input():
    check_masks(MASKS, 3)
    check_masks(MASKS, 3, (8, 8))
    with pytest.raises(ValueError, match=r'the masks of image 0 are \(8, 8\), .* \(8, 9\) \(height, width\); pad them'):
        check_masks(MASKS, 3, (8, 9))
    with pytest.raises(ValueError, match=r'expected the masks of image 1 as \(G, H, W\), got \(8, 8\)'):
        check_masks([MASKS[0], MASKS[0][0], MASKS[2]], 3)


def test_values():
    reads = DeferredReads()
    check_mask_values([torch.rand(2, 3, 3), torch.zeros(0, 3, 3), torch.ones(1, 3, 3, dtype=torch.uint8)], reads)
    with pytest.raises(ValueError, match=r'got 0 to 255; threshold 8-bit masks \(mask > 127\), and mark pixels'):
        check_mask_values([torch.tensor([[[0, 255]]], dtype=torch.uint8)], reads)


def test_logits_come_without_their_gradient():
    logits = torch.randn(2, 3, 5, 4, 4, requires_grad=True)
    for kind in (logits, list(logits)):
        layers = check_mask_logits(kind)
        assert not any(layer.requires_grad for layer in layers)
        assert torch.equal(torch.stack(layers), logits.detach())
    with pytest.raises(ValueError, match=r'expected mask logits \(L, B, Q, h, w\), or a list of L tensors .* got \[\]'):
        check_mask_logits([])


def test_valid_has_the_size_of_the_masks():
    check_valid(None, MASKS)
    check_valid([None, torch.ones(3, 3, dtype=torch.bool), torch.ones(8, 8, dtype=torch.bool)], MASKS)
    with pytest.raises(
        ValueError, match=r'expected valid of image 2 as \(H, W\) like its masks, \(8, 8\), got \(3, 3\)'
    ):
        check_valid([None, None, torch.ones(3, 3, dtype=torch.bool)], MASKS)
