import pytest
import torch

pytest.importorskip('mmseg', reason='AOT is built with mmseg')

from mmplugins.models.segmentors.aot import VideoEngine
from mmplugins.models.segmentors.aot.tracker import Tracker
from tests.models.segmentors.aot.aot_models import HEIGHT, WIDTH, clips, moving_masks, tiny_aot

SIZE = HEIGHT, WIDTH


def track(masks, seed=1):
    """Tracks through as many frames as there are masks, None where none is given; gives the tracker and the masks."""
    tracker = Tracker(VideoEngine(tiny_aot().eval().network))
    frames = clips(1, len(masks), seed=seed)[0].split(1)
    return tracker, torch.cat([tracker.track(*pair, SIZE) for pair in zip(frames, masks, strict=True)])


def renumbered(masks, **numbers):
    """Gives masks with other numbers: a=5 makes object 1 object 5, b is object 2."""
    table = torch.arange(256, dtype=torch.uint8)
    for letter, number in numbers.items():
        table[ord(letter) - ord('a') + 1] = number
    return table[masks.long()]


def test_any_numbers_are_those_from_one_on():
    """Ascending numbers: the identities, and so the masks, are the same. 203 takes no more passes than 2 does."""
    mask = moving_masks()[:1, 0]
    _, expected = track([mask, None, None])
    tracker, found = track([renumbered(mask, a=38, b=203), None, None])
    assert found.dtype == torch.uint8
    assert set(expected[1:].unique().tolist()) > {0}  # this network of random weights predicts objects
    assert torch.equal(found, renumbered(expected, a=38, b=203))
    assert tracker.engine.num_objects == 2


def test_a_lower_number_that_appears_later():
    """Object 3, and from the second frame on object 1: it is nowhere before, though its number is lower."""
    mask = moving_masks(objects=1)[:1, 0]
    later = torch.zeros_like(mask)
    later[:, 20:30, 30:40] = 2
    _, expected = track([mask, None, later, None])
    _, found = track([renumbered(mask, a=3), None, renumbered(later, b=1), None])
    assert torch.equal(found, renumbered(expected, a=3, b=1))
    assert 1 not in found[:2]
    assert (found[2][later[0] == 2] == 1).all()


def test_ignored_pixels_are_no_object():
    mask = moving_masks()[:1, 0].clone()
    mask[:, :3] = 255
    tracker, found = track([mask, torch.full_like(mask, 255)])
    assert set(found.unique().tolist()) <= {0, 1, 2}
    assert not found[0, :3].any()
    assert tracker.engine.num_objects == 2


def test_wrong_masks():
    empty = torch.zeros(1, *SIZE, dtype=torch.long)
    with pytest.raises(ValueError, match='a reference needs at least one object'):
        track([empty])
    for values, text in ((256, 'from 0 to 256'), (-1, 'from -1 to -1')):
        with pytest.raises(ValueError, match=f'1 to 254 for objects and 255, got values {text}'):
            track([empty + values if values < 0 else torch.where(torch.arange(SIZE[1]) < 2, values, empty)])
