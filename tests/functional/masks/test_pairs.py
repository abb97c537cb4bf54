import pytest
import torch

from mmplugins.functional.device import DeferredReads
from mmplugins.functional.masks.pairs import check_mask_values, check_masks, join_pairs, pair_maps


def scene():
    """Two layers, three images with 2, 0 and 3 masks."""
    masks = [torch.zeros(count, 8, 8, dtype=torch.bool) for count in (2, 0, 3)]
    none = torch.zeros(0, dtype=torch.int64)
    matches = [
        [
            (torch.tensor([1, 4]), torch.tensor([1, 0])),
            (none, none),
            (torch.tensor([0, 2, 3]), torch.tensor([2, 0, 1])),
        ],
        [
            (torch.tensor([0, 2]), torch.tensor([0, 1])),
            (none, none),
            (torch.tensor([1, 2, 4]), torch.tensor([0, 1, 2])),
        ],
    ]
    return matches, masks


def test_pairs_are_ordered_by_layer_and_image():
    matches, masks = scene()
    pairs = join_pairs(matches, masks, 2, torch.device('cpu'))
    assert pairs.layer.tolist() == [0] * 5 + [1] * 5
    assert pairs.image.tolist() == [0, 0, 2, 2, 2] * 2
    assert pairs.query.tolist() == [1, 4, 0, 2, 3, 0, 2, 1, 2, 4]
    assert pairs.truth.tolist() == [1, 0, 2, 0, 1, 0, 1, 0, 1, 2]
    assert pairs.counts == [[2, 0, 3], [2, 0, 3]]
    assert pairs.per_layer == [5, 5]


def test_blocks_keep_the_pairs_of_a_ground_truth_together():
    matches, masks = scene()
    pairs = join_pairs(matches, masks, 2, torch.device('cpu'))
    blocks = list(pairs.blocks(100))
    assert [(block.image, block.layers) for block in blocks] == [(0, [0, 1] * 2), (2, [0, 1] * 3)]
    assert [pairs.truth[block.places].tolist() for block in blocks] == [[0, 0, 1, 1], [0, 0, 1, 1, 2, 2]]
    assert sorted(torch.cat([block.places for block in blocks]).tolist()) == list(range(10))
    assert [len(block.layers) for block in pairs.blocks(4)] == [4, 4, 2]


def test_maps_of_a_block():
    matches, masks = scene()
    pairs = join_pairs(matches, masks, 2, torch.device('cpu'))
    logits = torch.randn(2, 3, 5, 4, 4)
    for kind in (logits, list(logits), logits.half()):
        for block in pairs.blocks(4):
            maps = pair_maps(kind, block, pairs.query)
            assert maps.dtype == torch.float32
            expected = logits[pairs.layer[block.places], block.image, pairs.query[block.places]]
            torch.testing.assert_close(maps, expected, rtol=1e-2, atol=1e-2)


def test_no_pairs():
    none = torch.zeros(0, dtype=torch.int64)
    pairs = join_pairs([[(none, none)]], [torch.zeros(0, 4, 4)], 1, torch.device('cpu'))
    assert pairs.per_layer == [0]
    assert list(pairs.blocks(9)) == []
    assert join_pairs([[], []], [], 2, torch.device('cpu')).per_layer == [0, 0]


def test_masks_must_have_the_size_of_the_input():
    _, masks = scene()
    check_masks(masks, 3)
    check_masks(masks, 3, (8, 8))
    with pytest.raises(ValueError, match=r'the masks of image 0 are \(8, 8\), .* \(8, 9\) \(height, width\); pad them'):
        check_masks(masks, 3, (8, 9))
    with pytest.raises(ValueError, match=r'expected the masks of image 1 as \(G, H, W\), got \(8, 8\)'):
        check_masks([masks[0], masks[0][0], masks[2]], 3)


def test_values():
    reads = DeferredReads()
    check_mask_values([torch.rand(2, 3, 3), torch.zeros(0, 3, 3), torch.ones(1, 3, 3, dtype=torch.uint8)], reads)
    with pytest.raises(ValueError, match=r'got 0 to 255; threshold 8-bit masks \(mask > 127\), and mark pixels'):
        check_mask_values([torch.tensor([[[0, 255]]], dtype=torch.uint8)], reads)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_blocks_are_of_one_layer():
    matches, masks = scene()
    pairs = join_pairs(matches, masks, 2, torch.device('cuda'))
    assert [(block.image, block.layers) for block in pairs.blocks(9)] == [
        (0, [0, 0]),
        (2, [0, 0, 0]),
        (0, [1, 1]),
        (2, [1, 1, 1]),
    ]
    logits = torch.randn(2, 3, 5, 4, 4, device='cuda')
    for block in pairs.blocks(4):
        expected = logits[pairs.layer[block.places], block.image, pairs.query[block.places]]
        assert torch.equal(pair_maps(list(logits), block, pairs.query), expected)
