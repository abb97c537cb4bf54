import pytest
import torch

from mmplugins.functional.device import plain_path
from mmplugins.functional.sets.pairs import pack_pairs

CPU = torch.device('cpu')


def pair(query: list[int], index: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(query, dtype=torch.int64), torch.tensor(index, dtype=torch.int64)


PAIRS = [[pair([1, 4], [0, 2]), pair([], []), pair([0], [0])], [pair([2, 3], [2, 1]), pair([], []), pair([4], [0])]]


def scene():
    """Two layers, three images with 2, 0 and 3 objects, 5 queries."""
    layers = [
        [pair([1, 4], [1, 0]), pair([], []), pair([0, 2, 3], [2, 0, 1])],
        [pair([0, 2], [0, 1]), pair([], []), pair([1, 2, 4], [0, 1, 2])],
    ]
    return pack_pairs(layers, 5, [2, 0, 3], CPU)


def test_values():
    """Two layers, three images of 3, 0 and 1 objects, five queries: prediction (layer*3 + image)*5 + query."""
    pairs = pack_pairs(PAIRS, 5, [3, 0, 1], CPU)
    assert pairs.layer.tolist() == [0, 0, 0, 1, 1, 1]
    assert pairs.image.tolist() == [0, 0, 2, 0, 0, 2]
    assert pairs.query.tolist() == [1, 4, 0, 2, 3, 4]
    assert pairs.object.tolist() == [0, 2, 0, 2, 1, 0]
    assert pairs.prediction.tolist() == [1, 4, 10, 17, 18, 29]
    assert pairs.target.tolist() == [0, 2, 3, 2, 1, 3]
    assert pairs.num_objects.tolist() == [3, 0, 1]
    assert pairs.counts == [[2, 0, 1], [2, 0, 1]]
    assert pairs.per_layer == [3, 3]


def test_the_last_layer_alone():
    pairs = pack_pairs(PAIRS, 5, [3, 0, 1], CPU).last_layer()
    assert pairs.layer.tolist() == [0, 0, 0]
    assert pairs.image.tolist() == [0, 0, 2]
    assert pairs.query.tolist() == [2, 3, 4]
    assert pairs.object.tolist() == [2, 1, 0]
    assert pairs.target.tolist() == [2, 1, 3]
    assert pairs.counts == [[2, 0, 1]]


def test_nothing_is_matched():
    pairs = pack_pairs([[pair([], []), pair([], [])]], 5, [0, 0], CPU)
    assert [len(part) for part in pairs[:6]] == [0] * 6
    assert pairs.prediction.dtype == torch.int64
    assert pairs.per_layer == [0]
    assert list(pairs.blocks(9)) == []
    assert pack_pairs([[], []], 5, [], CPU).per_layer == [0, 0]


def test_wrong_pairs_raise():
    with pytest.raises(ValueError, match=r'matched pairs of 2 images in each layer, got 3; assign_batch returns'):
        pack_pairs(PAIRS, 5, [3, 0], CPU)
    on_device = [[tuple(index.to('meta') for index in one) for one in layer] for layer in PAIRS]
    with pytest.raises(ValueError, match='expected matched pairs on the CPU, got meta and meta'):
        pack_pairs(on_device, 5, [3, 0, 1], CPU)


def test_blocks_keep_the_pairs_of_an_object_together():
    pairs = scene()
    blocks = list(pairs.blocks(100))
    assert [(block.image, block.layers) for block in blocks] == [(0, [0, 1] * 2), (2, [0, 1] * 3)]
    assert [pairs.object[block.places].tolist() for block in blocks] == [[0, 0, 1, 1], [0, 0, 1, 1, 2, 2]]
    assert sorted(torch.cat([block.places for block in blocks]).tolist()) == list(range(10))
    assert [len(block.layers) for block in pairs.blocks(4)] == [4, 4, 2]


def test_blocks_of_the_plain_path_are_of_one_layer():
    with plain_path():
        pairs = scene()
        blocks = [(block.image, block.layers, block.places) for block in pairs.blocks(9)]
        assert blocks == [
            (0, [0, 0], slice(0, 2)),
            (2, [0, 0, 0], slice(2, 5)),
            (0, [1, 1], slice(5, 7)),
            (2, [1, 1, 1], slice(7, 10)),
        ]
        assert [len(block.layers) for block in pairs.blocks(2)] == [2, 2, 1, 2, 2, 1]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_one_copy_that_waits_for_nothing():
    device = torch.device('cuda')
    pack_pairs(PAIRS, 5, [3, 0, 1], device)  # the first call may set something up
    with torch.profiler.profile() as profile:
        torch.cuda.set_sync_debug_mode('error')
        try:
            pairs = pack_pairs(PAIRS, 5, [3, 0, 1], device)
            list(pairs.blocks(2))
        finally:
            torch.cuda.set_sync_debug_mode('default')
    copies = [event for event in profile.events() if 'Memcpy HtoD' in event.name]
    assert len(copies) == 1
    assert pairs.target.tolist() == [0, 2, 3, 2, 1, 3]
