import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmplugins.functional.device import plain_path
from mmplugins.functional.masks import cpu
from mmplugins.functional.masks.cpu import PackedMasks, pack
from mmplugins.functional.masks.sampled_masks import PairTargets, layer_sampler, sample_masks, target_again

DTYPES = [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float64]
SIZE = st.integers(1, 70)


def reference(masks, points):
    grid = 2 * points - 1
    return F.grid_sample(masks[:, None].to(points.dtype), grid[:, None], align_corners=False)[:, 0, 0]


def scene(seed, number, height, width, num_points):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(number, height, width, generator=generator) < 0.5
    points = torch.rand(number, num_points, 2, generator=generator) * 1.4 - 0.2  # some lie outside
    edges = torch.tensor([[0, 0], [1, 1], [0.5, 0], [1, 0.5], [2, 0.5], [-3, 0.5], [0.5, 1 / height]])
    return masks, torch.cat((points, edges.expand(number, -1, -1)), 1)


def test_halfway_between_two_pixels():
    """One foreground pixel of 2 x 2, at the left top: its centre gives 1, the centre of the image a quarter."""
    masks = torch.tensor([[[True, False], [False, False]]])
    points = torch.tensor([[0.25, 0.25], [0.5, 0.25], [0.5, 0.5], [0.75, 0.75], [0, 0.25], [0, 0]])
    assert sample_masks(masks, points).tolist() == [[1, 0.5, 0.25, 0, 0.5, 0.25]]


def test_errors():
    masks, points = torch.zeros(2, 4, 4, dtype=torch.bool), torch.rand(3, 5, 2)
    with pytest.raises(ValueError, match=r'expected masks \(G, H, W\), got \(4, 4\)'):
        sample_masks(masks[0], points)
    with pytest.raises(ValueError, match=r'expected points \(P, 2\), or \(M, P, 2\) .* got \(3, 5, 1\)'):
        sample_masks(masks, points[..., :1])
    with pytest.raises(ValueError, match='expected a row of points for each of 2 masks, got 3 rows'):
        sample_masks(masks, points)


@settings(max_examples=60, deadline=None)
@given(SIZE, SIZE, st.integers(1, 3), st.sampled_from(DTYPES), st.integers(0, 99))
def test_equals_grid_sample(height, width, number, dtype, seed):
    masks, points = scene(seed, number, height, width, 20)
    values = sample_masks(masks.to(dtype), points)
    assert values.dtype == points.dtype
    torch.testing.assert_close(values, reference(masks, points), rtol=0, atol=1e-6)
    shared = sample_masks(masks.to(dtype), points[0])
    torch.testing.assert_close(shared, reference(masks, points[:1].expand(number, -1, -1)), rtol=0, atol=1e-6)


@pytest.mark.parametrize('size', [(1, 1), (1000, 1333), (37, 3)])
def test_packed_masks_equal_grid_sample(size):
    masks, points = scene(1, 1, *size, 5000)
    packed = PackedMasks(masks)
    torch.testing.assert_close(packed.sample_rows(points)[0], reference(masks, points), rtol=0, atol=1e-6)


@pytest.mark.usefixtures('each_path')
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('size', [(1, 1), (300, 200), (37, 3)])
def test_layers_are_sampled_when_they_are_asked_for(size, dtype):
    masks, points = scene(1, 3, *size, 1000)  # points of three layers
    sample = layer_sampler(masks.to(dtype), points)
    expected = torch.stack([reference(masks, layer.expand(3, -1, -1)) for layer in points])  # (L, G, P)
    for layers in (slice(None), slice(1, 2), slice(0, 2)):
        torch.testing.assert_close(sample(layers), expected[layers], rtol=0, atol=1e-6)


@pytest.mark.usefixtures('each_path')
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('number', [500, 501])
def test_targets_of_pairs_are_made_again(dtype, number):
    """What is kept gives the values, of some rows too; half a byte each where masks are packed."""
    masks, points = scene(8, 2, 30, 20, number)
    masks, points = torch.cat((masks, torch.ones(1, 30, 20, dtype=torch.bool))), torch.cat((points, points))[:3]
    index = torch.tensor([2, 0, 1])
    given = [masks[:0].to(dtype), masks.to(dtype)]
    targets = PairTargets(given, (4, points.shape[1]), 2, points.dtype, points.device)
    values = targets.sample(1, points, index, torch.tensor([3, 0, 1]))
    torch.testing.assert_close(values, reference(masks[index], points), rtol=0, atol=1e-6)
    assert torch.equal(target_again(targets.kept[3:], points[:1], targets.size), values[:1])
    assert torch.equal(target_again(targets.kept[:2], points[1:], targets.size), values[1:])
    if targets.size is not None:
        assert targets.kept.shape == (4, (points.shape[1] + 1) // 2)
        assert targets.kept.dtype == torch.uint8


def test_packing_is_worth_it_for_many_points():
    masks = torch.zeros(2, 1000, 1000, dtype=torch.bool)
    assert PackedMasks.serves(masks, 12544)
    assert not PackedMasks.serves(masks, 100)
    assert not PackedMasks.serves(masks.float(), 12544)
    with plain_path():
        assert not PackedMasks.serves(masks, 12544)


@pytest.mark.parametrize('dtype', DTYPES)
def test_the_plain_path_equals_grid_sample(dtype):
    masks, points = scene(7, 3, 30, 20, 500)
    index = torch.tensor([2, 0, 0])
    with plain_path():
        values = sample_masks(masks.to(dtype), points, index)
        shared = sample_masks(masks.to(dtype), points[0])
    torch.testing.assert_close(values, reference(masks[index], points), rtol=0, atol=1e-6)
    torch.testing.assert_close(shared, reference(masks, points[:1].expand(3, -1, -1)), rtol=0, atol=1e-6)


def test_giant_masks_have_exact_indices():
    masks = torch.zeros(1, 4200, 4000, dtype=torch.bool)
    masks[0, -1, ::2] = True
    x = (torch.arange(4000) + 0.5) / 4000
    points = torch.stack((x, torch.full_like(x, 1 - 0.5 / 4200)), -1)
    torch.testing.assert_close(sample_masks(masks, points), reference(masks, points[None]), rtol=0, atol=1e-6)


def test_rows_may_share_and_skip_masks():
    masks, points = scene(2, 4, 30, 20, 50)
    index = torch.tensor([3, 0, 3, 3, 1])
    points = torch.cat((points, points[:1]))
    for kind in (masks, masks.float()):
        torch.testing.assert_close(
            sample_masks(kind, points, index), reference(masks[index], points), rtol=0, atol=1e-6
        )
    values = PackedMasks(masks).sample_rows(points, index)[0]
    torch.testing.assert_close(values, reference(masks[index], points), rtol=0, atol=1e-6)


def test_small_masks_are_worked_on_together(monkeypatch):
    """Beside one another in memory, and yet each for itself: at the edges too, where a neighbour would shine in."""
    masks, points = scene(4, 3, 30, 20, 500)
    masks[1] = True
    points[:, :100] *= 0.01
    points[:, 100:200] = 1 - 0.01 * points[:, 100:200]
    index = torch.tensor([2, 0, 1])
    together = PackedMasks(masks)
    monkeypatch.setattr(cpu, '_SMALL', 0)
    alone = PackedMasks(masks)
    assert together._all is not None
    assert alone._all is None
    values = together.sample_rows(points, index)[0]
    assert torch.equal(values, alone.sample_rows(points, index)[0])
    torch.testing.assert_close(values, reference(masks[index], points), rtol=0, atol=1e-6)


def test_many_points_are_worked_on_in_chunks(monkeypatch):
    masks, points = scene(3, 2, 30, 20, 500)
    expected = sample_masks(masks, points)
    monkeypatch.setattr(cpu, '_POINTS', 64)
    monkeypatch.setattr(cpu, '_SMALL', 0)
    assert torch.equal(sample_masks(masks, points), expected)


def test_float64_points_are_sampled_in_float64():
    masks, points = scene(4, 2, 300, 200, 100)
    for kind in (masks, masks.double()):
        values = sample_masks(kind, points.double())
        assert values.dtype == torch.float64
        torch.testing.assert_close(values, reference(masks, points.double()), rtol=0, atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.bool, torch.float16])
def test_without_masks_or_points(dtype):
    none = torch.zeros(0, 5, 6).to(dtype)
    assert sample_masks(none, torch.rand(7, 2)).shape == (0, 7)
    assert sample_masks(none, torch.rand(0, 7, 2)).shape == (0, 7)
    assert sample_masks(torch.zeros(3, 5, 6).to(dtype), torch.rand(0, 2)).shape == (3, 0)


def test_masks_of_any_memory_layout():
    masks, points = scene(5, 3, 20, 24, 30)
    padded = F.pad(masks.to(torch.uint8), (0, 5, 0, 3))[:, :20, :24]
    turned = masks.transpose(1, 2).contiguous().transpose(1, 2)
    for kind in (padded, turned, padded.view(torch.bool), turned.float()):
        assert not kind.is_contiguous()
        torch.testing.assert_close(sample_masks(kind, points), reference(masks, points), rtol=0, atol=1e-6)
        torch.testing.assert_close(sample_masks(kind, points[0])[:1], reference(masks[:1], points[:1]))


def test_a_byte_holds_four_pixels():
    """Around a single foreground pixel the four corners hold one bit each, of weight 8, 4, 2 and 1."""
    packed = pack(torch.tensor([[True]]))
    assert packed.tolist() == [[8, 4, 0], [2, 1, 0], [0, 0, 0]]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('dtype', DTYPES)
def test_cuda_equals_cpu(dtype):
    masks, points = scene(6, 5, 300, 200, 1000)
    index = torch.tensor([4, 0, 4, 2, 1])
    expected = sample_masks(masks.to(dtype), points, index)
    on_device = masks.to(dtype).cuda()
    values = sample_masks(on_device, points.cuda(), index.cuda())
    torch.testing.assert_close(values.cpu(), expected, rtol=0, atol=1e-4)
    shared = sample_masks(on_device, points[0].cuda())
    torch.testing.assert_close(shared.cpu(), sample_masks(masks.to(dtype), points[0]), rtol=0, atol=1e-4)
