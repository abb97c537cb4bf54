import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmplugins.functional.pixels.regions import (
    batch_mean_scale,
    bce_iou_loss,
    box_filter,
    edge_weight,
    soft_iou_loss,
    structure_loss,
)
from mmplugins.testing import assert_relative, load_golden
from tests.locations import golden_files


def released(logits, mask, count=None, **settings):
    return structure_loss(logits, mask, count, variant='released', **settings)


LOSSES = {
    'iou': soft_iou_loss,
    'bce_iou': bce_iou_loss,
    'structure_paper': structure_loss,
    'structure_released': released,
}
each_loss = pytest.mark.parametrize('loss', [pytest.param(loss, id=name) for name, loss in LOSSES.items()])


def example(images=2, height=24, width=20, seed=0, dtype=torch.float32):
    """Logits and masks with a rectangle in each, (N, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, height, width, generator=generator, dtype=torch.float64)
    mask = torch.zeros(images, height, width, dtype=torch.bool)
    for i in range(images):
        mask[i, 3 + i : 12 + 2 * i, 5 : 9 + 3 * i] = True
    return logits.to(dtype), mask


def plain_formula(logits, mask, count, variant, kernel_size=31, strength=5.0):
    """The loss as the paper writes it, pixels counted, with torch's own pooling and autograd; mean over images."""
    mask = mask.to(logits.dtype) * (count > 0)
    surroundings = F.avg_pool2d(mask[:, None], kernel_size, 1, kernel_size // 2)[:, 0]
    weight = (1 + strength * (surroundings - mask).abs()) * count
    entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction='none')
    if variant == 'paper':
        entropy = (weight * entropy).sum((1, 2)) / weight.sum((1, 2))
    else:
        entropy = (entropy * count).sum() / count.sum()
    prob = logits.sigmoid()
    inter = (prob * mask * weight).sum((1, 2))
    return (entropy + 1 - inter / (((prob + mask) * weight).sum((1, 2)) - inter)).mean()


@pytest.mark.parametrize('path', golden_files('pfnet_losses_*.npz'))
def test_golden(path):
    golden = load_golden(path)
    mask = golden['mask'][:, 0]
    assert_relative(edge_weight(mask), golden['edge_weight'][:, 0], 1e-5, 'edge weight')
    for name, loss in LOSSES.items():
        logits = golden['logits'][:, 0].clone().requires_grad_()
        value = loss(logits, mask).mean()
        value.backward()
        assert_relative(value, golden[name], 1e-5, name)
        assert_relative(logits.grad, golden[f'grad_{name}'][:, 0], 1e-5, f'gradient of {name}')


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    radius=st.integers(0, 25),
    seed=st.integers(0, 2**16),
    binary=st.booleans(),
)
def test_box_filter_is_avg_pool(height, width, radius, seed, binary):
    mask = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(seed))
    mask = (mask > 0.5).float() if binary else mask
    size = 2 * radius + 1
    torch.testing.assert_close(box_filter(mask, size), F.avg_pool2d(mask, size, 1, radius), rtol=1e-5, atol=1e-6)


def test_box_filter_by_hand():
    """Window 3 over 1 2 4: the ends see a zero outside, and rows above and below are zero too, hence / 9."""
    assert (9 * box_filter(torch.tensor([[1.0, 2, 4]]), 3))[0].tolist() == pytest.approx([3, 7, 6])


def test_box_filter_keeps_precision_far_from_the_start():
    """Running sums over 100,000 pixels would lose about five digits in float32."""
    mask = torch.rand(1, 100_000, generator=torch.Generator().manual_seed(0))
    exact = box_filter(mask.double(), 31)
    assert float((box_filter(mask, 31) - exact).abs().max()) < 1e-7


def test_box_filter_leaves_its_input_alone():
    mask = torch.rand(3, 5)
    before = mask.clone()
    for size in (1, 3):
        box_filter(mask, size)
        edge_weight(mask, size)
    assert torch.equal(mask, before)


@pytest.mark.parametrize('size', [0, -1, 2, 30])
def test_even_window_raises(size):
    logits, mask = example()
    with pytest.raises(ValueError, match=f'kernel_size must be odd and positive.*got {size}'):
        box_filter(logits, size)
    with pytest.raises(ValueError, match='kernel_size must be odd and positive'):
        structure_loss(logits, mask, kernel_size=size)


def test_unknown_variant_raises():
    with pytest.raises(ValueError, match=r"variant must be one of \('paper', 'released'\), got 'pranet'; 'paper' weig"):
        structure_loss(*example(), variant='pranet')


def test_edge_weight_moves_with_the_mask():
    mask = torch.zeros(60, 70)
    mask[20:30, 22:35] = 1
    moved = edge_weight(mask.roll((4, 7), (0, 1)), 11)
    assert torch.equal(moved, edge_weight(mask, 11).roll((4, 7), (0, 1)))


def test_edge_weight_is_one_far_from_the_edge():
    mask = torch.zeros(40, 40)
    mask[15:25, :] = 1
    weight = edge_weight(mask, 5, 2.0)
    assert weight[20, 20] == 1  # inside
    assert weight[5, 20] == 1  # outside
    assert float(weight[15, 20]) == pytest.approx(1 + 2 * 2 / 5)  # two of the five rows are background
    assert weight.max() <= 3


@each_loss
@pytest.mark.parametrize('axes', [(1,), (2,), (1, 2)])
def test_flips_change_nothing(loss, axes):
    logits, mask = example()
    logits.requires_grad_()
    value = loss(logits, mask)
    (grad,) = torch.autograd.grad(value.sum(), logits)
    flipped = loss(logits.flip(axes), mask.flip(axes))
    (flipped_grad,) = torch.autograd.grad(flipped.sum(), logits)
    torch.testing.assert_close(flipped, value)
    torch.testing.assert_close(flipped_grad, grad)


@pytest.mark.parametrize('variant', ['paper', 'released'])
def test_without_edge_weight_it_is_bce_and_iou(variant):
    logits, mask = example()
    value = structure_loss(logits, mask, strength=0.0, variant=variant).mean()
    torch.testing.assert_close(value, bce_iou_loss(logits, mask).mean())
    entropy = F.binary_cross_entropy_with_logits(logits, mask.float())
    torch.testing.assert_close(value, entropy + soft_iou_loss(logits, mask).mean())


def test_paper_and_released_differ():
    """A wrong pixel at the edge costs more in the paper's formula, as its cross entropy is weighted too."""
    logits, mask = example()
    logits = 4 * (2 * mask.float() - 1)
    logits[:, 3:5, 5:9] *= -1
    assert structure_loss(logits, mask).mean() > released(logits, mask).mean() + 0.1


def test_soft_iou_by_hand():
    """Two pixels, p = 1/2, m = 1, 1/4: I = 1/2 + 1/8, U = 1 + 5/4 - 5/8 = 13/8, so 1 - 5/13."""
    assert float(soft_iou_loss(torch.zeros(1, 1, 2), torch.tensor([[[1, 0.25]]]))) == pytest.approx(8 / 13)


def test_plain_cross_entropy_is_over_the_batch():
    """Images with 1 and 3 counting pixels: their sums of cross entropy are divided by 4 pixels, times 2 images."""
    logits = torch.zeros(2, 1, 3)
    count = torch.tensor([[[1.0, 0, 0]], [[1, 1, 1]]])
    assert float(batch_mean_scale(logits, count)) == pytest.approx(2 / 4)
    assert float(batch_mean_scale(logits, None)) == pytest.approx(1 / 3)
    assert float(batch_mean_scale(logits, torch.zeros(2, 1, 3, dtype=torch.bool))) == 0


@pytest.mark.parametrize('variant', ['paper', 'released'])
@pytest.mark.parametrize('soft', [False, True])
def test_counts_enter_every_sum(variant, soft):
    logits, mask = example(3, dtype=torch.float64)
    if soft:
        mask = torch.rand(mask.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    count = torch.randint(0, 4, mask.shape, generator=torch.Generator().manual_seed(2))
    logits.requires_grad_()
    value = structure_loss(logits, mask, count, variant=variant).mean()
    expected = plain_formula(logits, mask, count, variant)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in (value, expected)))


@each_loss
def test_gradcheck(loss):
    logits, mask = example(2, 7, 9, dtype=torch.float64)
    mask = mask.double() * 0.8 + 0.1
    assert torch.autograd.gradcheck(lambda x: loss(x, mask), logits.requires_grad_())
    count = torch.randint(0, 3, mask.shape, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: loss(x, mask, count), logits)


@each_loss
@pytest.mark.parametrize('mask_value', [0.0, 1.0])
@pytest.mark.parametrize('logit', [-1e4, -104, -95, -90, -80, 0, 80, 95, 1e4])
def test_empty_and_full_masks_stay_finite(loss, mask_value, logit):
    logits = torch.full((2, 9, 9), float(logit), requires_grad=True)
    value = loss(logits, torch.full((2, 9, 9), mask_value))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(logits.grad).all()
    if mask_value == 0:  # the ratio is 0, also where it is 0/0
        assert torch.equal(soft_iou_loss(logits, torch.zeros(2, 9, 9)), torch.ones(2))


@each_loss
def test_large_counts_stay_finite(loss):
    """The reciprocal of a vanishing union times the count must not overflow."""
    logits = torch.full((1, 9, 9), -90.0, requires_grad=True)
    value = loss(logits, torch.zeros(1, 9, 9), torch.full((1, 9, 9), 1e6))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(logits.grad).all()


def test_rounds_like_autograd_on_the_released_formula():
    """Bit by bit, on which the first training steps depend; see the trajectory of PFNet's training."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 64, 64, generator=generator).requires_grad_()
    mask = torch.zeros(4, 64, 64)
    mask[:, 10:30, 20:50] = 1
    value = released(logits, mask).mean()
    (grad,) = torch.autograd.grad(value, logits)
    weight = 1 + 5 * (F.avg_pool2d(mask[:, None], 31, 1, 15)[:, 0] - mask).abs()
    prob = logits.sigmoid()
    inter = ((prob * mask) * weight).sum((1, 2))
    union = ((prob + mask) * weight).sum((1, 2))
    iou = (1 - inter / (union - inter)).mean()
    (expected,) = torch.autograd.grad(F.binary_cross_entropy_with_logits(logits, mask) + iou, logits)
    assert torch.equal(grad, expected)


@each_loss
def test_mixed_extreme_logits_stay_finite(loss):
    logits, mask = example()
    logits = (1e4 * logits.sign()).requires_grad_()
    value = loss(logits, mask)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(logits.grad).all()


def test_an_empty_mask_has_no_iou_gradient():
    logits = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = soft_iou_loss(logits, torch.zeros(1, 8, 8))
    value.backward()
    assert value.item() == 1
    assert torch.count_nonzero(logits.grad) == 0


@each_loss
def test_value_does_not_depend_on_chunks(loss, monkeypatch):
    logits, mask = example(5)
    logits.requires_grad_()
    results = []
    for pixels in (1, 2 * 24 * 20, 1 << 18):
        monkeypatch.setattr('mmplugins.functional.pixels.regions._CPU_CHUNK', pixels)
        value = loss(logits, mask)
        results.append((value, torch.autograd.grad(value.sum(), logits)[0]))
    for value, grad in results[1:]:
        torch.testing.assert_close(value, results[0][0])
        torch.testing.assert_close(grad, results[0][1])


@each_loss
def test_no_image_gives_no_value(loss):
    logits = torch.zeros(0, 4, 4, requires_grad=True)
    value = loss(logits, torch.zeros(0, 4, 4))
    assert value.shape == (0,)
    value.sum().backward()


def test_no_gradient_is_kept_without_need():
    logits, mask = example()
    with torch.no_grad():
        assert not structure_loss(logits.requires_grad_(), mask).requires_grad
    assert not structure_loss(logits.detach(), mask).requires_grad
