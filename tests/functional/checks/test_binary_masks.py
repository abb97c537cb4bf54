import pytest
import torch

from mmplugins.functional.checks.binary_masks import as_maps, read_mask
from mmplugins.functional.device import DeferredReads


def read(mask, ignore_index=255):
    return read_mask(mask, ignore_index, DeferredReads())


def test_channel_axis_is_dropped():
    logits = torch.zeros(2, 1, 3, 4)
    for shape in [(2, 3, 4), (2, 1, 3, 4)]:
        maps, mask = as_maps(logits, torch.zeros(shape))
        assert maps.shape == mask.shape == (2, 3, 4)
    maps, mask = as_maps(torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 4))  # an axis of height 1 is no channel
    assert maps.shape == mask.shape == (2, 1, 4)


def test_wrong_shapes_raise():
    with pytest.raises(ValueError, match=r'expected logits \(N, 1, H, W\), one map an image, got \(2, 3, 4, 4\); give'):
        as_maps(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4))
    for shape in [(2, 4, 3), (1, 4, 4), (2, 2, 4, 4), (4, 4)]:
        with pytest.raises(
            ValueError, match=r'expected a mask \(N, H, W\) or \(N, 1, H, W\) for logits \(2, 1, 4, 4\)'
        ):
            as_maps(torch.zeros(2, 1, 4, 4), torch.zeros(shape))


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int8, torch.int32, torch.int64])
def test_integer_masks(dtype):
    ignore_index = 255 if dtype in (torch.uint8, torch.int64, torch.int32) else -1
    mask = torch.tensor([[[0, 1], [1, ignore_index]]]).to(dtype)
    foreground, valid = read(mask, ignore_index)
    assert foreground.tolist() == [[[False, True], [True, False]]]
    assert valid.tolist() == [[[True, True], [True, False]]]
    foreground, valid = read(mask[:, :1], ignore_index)
    assert foreground.tolist() == [[[False, True]]]
    assert valid is None


def test_bool_and_floating_masks_come_back():
    for mask in (torch.tensor([[[True, False]]]), torch.tensor([[[0.0, 0.3, 1.0]]]), torch.zeros(0, 2, 2)):
        same, valid = read(mask)
        assert same is mask
        assert valid is None


@pytest.mark.parametrize(
    ('mask', 'shown'),
    [
        (torch.tensor([[[0.0, 255.0]]]), r'0 to 255 \(torch.float32\)'),
        (torch.tensor([[[-0.5, 1.0]]]), r'-0.5 to 1 '),
        (torch.tensor([[[0, 1.5]]], dtype=torch.float16), r'0 to 1.5 \(torch.float16\)'),
        (torch.tensor([[[0, float('nan')]]]), 'nan to nan'),
    ],
)
def test_floating_masks_out_of_range_raise(mask, shown):
    with pytest.raises(
        ValueError, match=rf'must lie in \[0, 1\], got {shown}.*divide an 8-bit mask by 255 or threshold'
    ):
        read(mask)


def test_integer_masks_with_other_values_raise():
    with pytest.raises(ValueError, match=r'must hold 0, 1 and ignore_index=255, got 0, 1, 2, 255; threshold an 8-bit'):
        read(torch.tensor([[[0, 1, 2, 255]]]))
    with pytest.raises(ValueError, match=r'must hold 0 and 1, got 0, 255; threshold'):
        read(torch.tensor([[[0, 255]]], dtype=torch.uint8), ignore_index=None)
    with pytest.raises(ValueError, match=r'must hold 0, 1 and ignore_index=-1, got -2, 0;'):
        read(torch.tensor([[[0, -2]]]), ignore_index=-1)
    with pytest.raises(ValueError, match=r'got 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.;'):
        read(torch.arange(256).reshape(1, 16, 16))


def eight_bit(dtype=torch.uint8):
    mask = torch.zeros(2, 6, 8, dtype=dtype)
    mask[0, 2:4, 3:6] = 255
    return mask


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int64])
def test_8_bit_masks_raise_though_255_is_ignored(dtype):
    with pytest.raises(ValueError, match=r'hold 0 and 255 but no 1: either they are 8-bit masks, then threshold them'):
        read(eight_bit(dtype))


def test_ignored_pixels_without_foreground_are_known_by_their_shape_or_value():
    mask = eight_bit()
    mask[1, 0, 0] = 1  # a foreground anywhere in the batch
    assert int((~read(mask)[1]).sum()) == 6
    padded = torch.zeros(2, 6, 8, dtype=torch.uint8)
    padded[0, 4:] = 255
    padded[0, :, 6:] = 255
    foreground, valid = read(padded)
    assert not foreground.any()
    assert int(valid.sum()) == 4 * 6 + 6 * 8
    assert not read(torch.full((2, 6, 8), 255))[1].any()  # nothing but ignored pixels
    assert int((~read(eight_bit() // 255 * 2, ignore_index=2)[1]).sum()) == 6


def test_outcome_waits_on_a_device():
    """What an earlier step found comes out of the next check."""
    reads = DeferredReads()

    class Arrived:
        @staticmethod
        def query():
            return True

    def reader(found):
        raise ValueError(f'mask of an earlier step: {found.item()}')

    reads._pending.append((Arrived, torch.tensor(3), reader))
    with pytest.raises(ValueError, match='mask of an earlier step: 3'):
        read_mask(torch.zeros(1, 2, 2), 255, reads)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('mask', [eight_bit(), torch.tensor([[[0, 3]]]), torch.tensor([[[0, 255.0]]])])
def test_cuda_raises_at_a_later_call(mask):
    reads = DeferredReads()
    read_mask(mask.cuda(), 255, reads)
    torch.cuda.synchronize()
    with pytest.raises(ValueError, match='mask'):
        reads.poll()
