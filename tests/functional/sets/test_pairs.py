import pytest
import torch

from mmplugins.functional.device import upload
from mmplugins.functional.sets.pairs import pack_matches

CPU = torch.device('cpu')


def pair(query: list[int], index: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(query, dtype=torch.int64), torch.tensor(index, dtype=torch.int64)


PAIRS = [[pair([1, 4], [0, 2]), pair([], []), pair([0], [0])], [pair([2, 3], [2, 1]), pair([], []), pair([4], [0])]]


def test_values():
    """Two layers, three images of 3, 0 and 1 objects, five queries: prediction (layer*3 + image)*5 + query."""
    matches = pack_matches(PAIRS, 5, [3, 0, 1], CPU, [7, 8])
    assert matches.prediction.tolist() == [1, 4, 10, 17, 18, 29]
    assert matches.target.tolist() == [0, 2, 3, 2, 1, 3]
    assert matches.query.tolist() == [1, 4, 0, 2, 3, 4]
    assert matches.object.tolist() == [0, 2, 0, 2, 1, 0]
    assert matches.counts == [[2, 0, 1], [2, 0, 1]]
    assert matches.per_layer == [3, 3]
    assert matches.numbers.tolist() == [7, 8]


def test_by_image_gives_the_pairs_back():
    for layer, expected in zip(pack_matches(PAIRS, 5, [3, 0, 1], CPU).by_image(), PAIRS, strict=True):
        for (query, index), (expected_query, expected_index) in zip(layer, expected, strict=True):
            assert torch.equal(query, expected_query)
            assert torch.equal(index, expected_index)


def test_nothing_is_matched():
    matches = pack_matches([[pair([], []), pair([], [])]], 5, [0, 0], CPU)
    assert [len(part) for part in matches[:4]] == [0, 0, 0, 0]
    assert matches.prediction.dtype == torch.int64
    assert matches.per_layer == [0]


def test_wrong_number_of_images_raises():
    with pytest.raises(ValueError, match=r'matched pairs of 2 images in each layer, got 3; assign_batch returns'):
        pack_matches(PAIRS, 5, [3, 0], CPU)


def test_on_the_cpu_nothing_is_copied():
    values = torch.arange(3)
    assert upload(values, CPU) is values


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_one_copy_that_waits_for_nothing():
    device = torch.device('cuda')
    pack_matches(PAIRS, 5, [3, 0, 1], device)  # the first call may set something up
    with torch.profiler.profile() as profile:
        torch.cuda.set_sync_debug_mode('error')
        try:
            matches = pack_matches(PAIRS, 5, [3, 0, 1], device, [7])
        finally:
            torch.cuda.set_sync_debug_mode('default')
    copies = [event for event in profile.events() if 'Memcpy HtoD' in event.name]
    assert len(copies) == 1
    assert matches.target.tolist() == [0, 2, 3, 2, 1, 3]
