import pytest
import torch

from mmplugins.functional.device import DeferredReads
from mmplugins.functional.masks.inputs import mask_inputs
from tests.functional.sets.test_pairs import scene

pytestmark = pytest.mark.usefixtures('each_path')
MASKS = [torch.zeros(count, 8, 8, dtype=torch.bool) for count in (2, 0, 3)]


def inputs(logits, valid=None):
    return mask_inputs(logits, MASKS, valid, DeferredReads())


def test_maps_of_a_block():
    pairs, logits = scene(), torch.randn(2, 3, 5, 4, 4)
    for kind in (logits, list(logits), logits.half()):
        for block in pairs.blocks(4):
            maps = inputs(kind).pair_maps(block, pairs.query)
            assert maps.dtype == torch.float32
            expected = logits[pairs.layer[block.places], block.image, pairs.query[block.places]]
            torch.testing.assert_close(maps, expected, rtol=1e-2, atol=1e-2)


def test_ignored_logits_are_zero_in_a_copy():
    pairs, logits = scene(), torch.full((2, 3, 5, 4, 4), float('nan'))
    valid = torch.ones(8, 8, dtype=torch.bool)
    valid[:, 2:4] = False
    found = inputs(logits, [valid, None, None])
    for block in pairs.blocks(100):
        maps = found.pair_maps(block, pairs.query)
        assert (maps[..., 1] == 0).all() if block.image == 0 else maps[..., 1].isnan().all()
        assert maps[..., 0].isnan().all()
    assert logits.isnan().all()


def test_an_image_is_a_view_of_one_tensor():
    logits = torch.randn(2, 3, 5, 4, 4, requires_grad=True)
    for kind in (logits, list(logits.unbind())):
        one = inputs(kind).of_image(1, slice(None))
        assert torch.equal(one, logits[:, 1].detach())
        assert not one.requires_grad
        assert (one.data_ptr() == logits[:, 1].data_ptr()) == (kind is logits)
