import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmplugins.functional.pixels.cross_entropy import pixel_cross_entropy
from mmplugins.functional.pixels.hard_pixels import (
    kth_smallest,
    kth_smallest_by_bits,
    ohem_pixels,
    ohem_threshold,
    topk_count,
    zoomed_probability,
)
from mmplugins.testing import load_golden
from tests.locations import golden_files


def random_case(n=2, c=5, h=20, w=31, seed=0, ignored=0.1):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, c, h, w, generator=generator)
    label = torch.randint(0, c, (n, h, w), generator=generator)
    label[torch.rand(n, h, w, generator=generator) < ignored] = 255
    return logits, label


@pytest.fixture(params=['cpu', 'elsewhere'])
def each_search(request, monkeypatch):
    """Searches the threshold as on the CPU, and as on any other device."""
    if request.param == 'elsewhere':
        monkeypatch.setattr('mmplugins.functional.pixels.hard_pixels.kth_smallest', kth_smallest_by_bits)


def reference_pixels(logits, label, thresh, min_kept, stride):
    """The released search, from its description: numpy, scipy's zoom and a partition."""
    prob = logits.softmax(1).numpy()
    label = label.numpy()
    zoomed_prob, zoomed_label, count = prob, label, min_kept
    if stride > 1:
        zoomed_prob = scipy.ndimage.zoom(prob, (1, 1, 1 / stride, 1 / stride), order=1)
        zoomed_label = scipy.ndimage.zoom(label, (1, 1 / stride, 1 / stride), order=0)
        count = min_kept // stride**2
    valid = zoomed_label != 255
    index = np.where(valid, zoomed_label, 0)[:, None]
    true_prob = np.take_along_axis(zoomed_prob, index, 1)[:, 0][valid]
    threshold = thresh
    if count >= valid.sum():
        threshold = 1.0
    elif count > 0:
        threshold = max(thresh, np.partition(true_prob, count - 1)[count - 1])
    index = np.where(label == 255, 0, label)[:, None]
    return (np.take_along_axis(prob, index, 1)[:, 0] <= threshold) & (label != 255), threshold


@pytest.mark.parametrize('path', golden_files('ohem_*.npz'))
def test_golden_selection(path):
    golden = load_golden(path)
    label = golden['label'].long()
    hard = ohem_pixels(
        golden['logits'],
        label,
        pixel_cross_entropy(golden['logits'], label, 255),
        golden['thresh'],
        golden['min_kept'],
        golden['factor'],
    )
    assert torch.equal(hard.kept, golden['kept'])
    assert float(hard.threshold) == pytest.approx(golden['threshold_used'], rel=1e-6)
    assert float(hard.kept_fraction) == pytest.approx(float(golden['kept'].sum() / (label != 255).sum()))


# 48x32 at stride 2 and 56x109 at stride 8 are sizes at which scipy's last point falls outside the image
@pytest.mark.parametrize(
    ('stride', 'size'), [(1, (20, 31)), (2, (48, 32)), (2, (33, 17)), (4, (41, 64)), (8, (97, 65)), (8, (56, 109))]
)
@pytest.mark.parametrize('min_kept', [0, 1, 150, 900, 10**6])
@pytest.mark.parametrize('thresh', [0.0, 0.05, 0.7, 1.0])
@pytest.mark.usefixtures('each_search')
def test_equals_the_released_search(stride, size, min_kept, thresh):
    logits, label = random_case(h=size[0], w=size[1], seed=min_kept)
    hard = ohem_pixels(logits, label, pixel_cross_entropy(logits, label, 255), thresh, min_kept, stride)
    kept, threshold = reference_pixels(logits, label, thresh, min_kept, stride)
    assert float(hard.threshold) == pytest.approx(float(threshold), rel=1e-5)
    # A pixel may flip only if its probability equals the threshold up to rounding.
    flipped = hard.kept.numpy() != kept
    prob = torch.exp(-pixel_cross_entropy(logits, label, 255)).numpy()
    assert np.allclose(prob[flipped], threshold, rtol=1e-5)
    assert flipped.sum() <= 1


@pytest.mark.usefixtures('each_search')
def test_threshold_by_hand():
    """Valid probabilities 0.1 0.3 0.5 0.9; the ignored 0.05 takes no part.

    thresh 0.4 keeps two; three are wanted, so the threshold is the third smallest, 0.5. With four wanted of four
    valid ones it is 1, with two or fewer it stays 0.4; half of four are two.
    """
    prob = torch.tensor([0.9, 0.05, 0.5, 0.1, 0.3])
    valid = torch.tensor([True, False, True, True, True])
    expected = {0: 0.4, 1: 0.4, 2: 0.4, 3: 0.5, 4: 1.0, 5: 1.0, 100: 1.0, 0.5: 0.4, 0.51: 0.5, 0.75: 0.5, 0.9: 1.0}
    for min_kept, threshold in expected.items():
        assert float(ohem_threshold(prob, valid, 0.4, min_kept)) == pytest.approx(threshold), min_kept


@pytest.mark.parametrize('min_kept', [3, 0.3])
def test_nothing_valid_keeps_nothing(min_kept):
    logits, label = random_case()
    label = torch.full_like(label, 255)
    hard = ohem_pixels(logits, label, pixel_cross_entropy(logits, label, 255), 0.7, min_kept)
    assert not hard.kept.any()
    assert float(hard.kept_fraction) == 0


def test_nan_pixels_are_kept():
    logits, label = random_case(ignored=0)
    logits[0, 0, 3, 4] = float('nan')
    hard = ohem_pixels(logits, label, pixel_cross_entropy(logits, label, 255), 0.0, 5)
    assert hard.kept[0, 3, 4]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(0, 2.0**100, width=32), min_size=1, max_size=200),
    st.sampled_from([torch.float32, torch.float64]),
    st.data(),
)
def test_kth_smallest_equals_sort(values, dtype, data):
    values = torch.tensor(values, dtype=dtype)
    k = data.draw(st.integers(1, len(values)))
    expected = values.sort().values[k - 1]
    assert kth_smallest(values, k) == expected
    assert kth_smallest(values, torch.tensor(k)) == expected
    assert kth_smallest_by_bits(values, k) == expected


def test_kth_smallest_beyond_the_end_is_infinite():
    assert kth_smallest(torch.tensor([1.0, 2.0]), torch.tensor(3)) == torch.inf


def test_partition_is_left_to_the_cpu(monkeypatch):
    """NumPy sees no other device, and a copy would wait for it."""

    def refuse(*args, **kwargs):
        raise RuntimeError('a partition of values on the host')

    monkeypatch.setattr(np, 'partition', refuse)
    prob = torch.empty(2, 3, 4, device='meta')
    assert ohem_threshold(prob, prob > 0, 0.7, 5).device.type == 'meta'
    with pytest.raises(RuntimeError, match='a partition of values'):
        kth_smallest(torch.zeros(3), 2)


def test_the_search_leaves_its_values_alone():
    values = torch.tensor([[3.0, 1.0], [torch.nan, 2.0]])
    before = values.clone()
    assert [float(kth_smallest(values, k)) for k in (1, 2, 3)] == [1, 2, 3]
    assert torch.isnan(kth_smallest(values, 4))
    torch.testing.assert_close(values, before, equal_nan=True, rtol=0, atol=0)


def test_zoom_needs_a_point():
    logits, label = random_case(h=3, w=40)
    with pytest.raises(ValueError, match='threshold_stride=8 leaves no point of 3 pixels; choose a smaller one'):
        zoomed_probability(logits, label, 8, 255)


def test_zoom_is_torchs_interpolation_away_from_the_edge():
    logits, _ = random_case(h=41, w=65, ignored=0)
    label = torch.ones(2, 41, 65, dtype=torch.long)
    prob, zoomed_label = zoomed_probability(logits, label, 4, 255)
    expected = F.interpolate(logits.softmax(1), (10, 16), mode='bilinear', align_corners=True)[:, 1]
    torch.testing.assert_close(prob, expected)
    assert torch.equal(zoomed_label, torch.ones(2, 10, 16, dtype=torch.long))


@pytest.mark.parametrize(
    ('step', 'expected'),
    # 100 % at 0, 15 % at 50000 and after; half-way (1 + 0.15) / 2 = 57.5 % of 1000 pixels
    [(0, 1000), (25000, 575), (50000, 150), (10**6, 150)],
)
def test_topk_count_anneals(step, expected):
    assert topk_count(step, 1000, 0.15, 50000) == expected


def test_topk_count_edges():
    assert topk_count(0, 1000, 0.15, 0) == 150
    assert topk_count(10**6, 4, 0.15, 0) == 1
    assert topk_count(10**6, 7, 1.0, 100) == 7
