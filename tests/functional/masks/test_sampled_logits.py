import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmplugins.functional.masks.cpu import sort_points
from mmplugins.functional.masks.sampled_logits import (
    draw_points,
    sample_into,
    sample_logits,
    uncertain_points,
)
from mmplugins.hosts import problem_with
from mmplugins.testing import load_golden
from tests.locations import golden_files

SIZE = st.integers(1, 40)


def reference(logits, points):
    return F.grid_sample(logits[:, None], (2 * points - 1)[:, None], align_corners=False)[:, 0, 0]


def scene(seed=0, number=3, height=12, width=17, num_points=40, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(number, height, width, generator=generator, dtype=torch.float64)
    points = torch.rand(number, num_points, 2, generator=generator, dtype=torch.float64) * 1.2 - 0.1
    return logits.to(dtype), points.to(dtype)


class TestSampleLogits:
    @settings(max_examples=40, deadline=None)
    @given(SIZE, SIZE, st.integers(0, 4), st.integers(0, 99))
    def test_equals_grid_sample(self, height, width, number, seed):
        logits, points = scene(seed, number, height, width)
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        values, expected = sample_logits(ours, points), reference(theirs, points)
        torch.testing.assert_close(values, expected, rtol=0, atol=1e-5)
        direction = torch.rand(values.shape)
        (grad,) = torch.autograd.grad((values * direction).sum(), ours)
        (expected_grad,) = torch.autograd.grad((expected * direction).sum(), theirs)
        torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=1e-5)

    def test_errors(self):
        logits, points = scene()
        with pytest.raises(
            ValueError, match=r'expected logits \(N, h, w\) and points \(N, P, 2\), .* got logits \(3, 12'
        ):
            sample_logits(logits, points[:2])
        with pytest.raises(ValueError, match='or rows that say which'):
            sample_logits(logits[None], points)

    def test_rows_say_which_map(self):
        logits = torch.randn(2, 3, 4, 5, 6, requires_grad=True)
        rows = (torch.tensor([1, 0, 1]), torch.tensor([2, 0, 2]), torch.tensor([0, 3, 1]))
        points = torch.rand(3, 7, 2)
        values = sample_logits(logits, points, rows)
        expected = reference(logits[rows], points)
        torch.testing.assert_close(values, expected)
        grad, expected_grad = (torch.autograd.grad(v.square().sum(), logits)[0] for v in (values, expected))
        torch.testing.assert_close(grad, expected_grad)
        assert torch.count_nonzero(grad.abs().sum((-2, -1))) == 3

    def test_a_map_sampled_twice_gets_both_gradients(self):
        logits = torch.randn(2, 5, 6, requires_grad=True)
        rows, points = (torch.tensor([1, 1, 0]),), torch.rand(3, 4, 2)
        values, expected = sample_logits(logits, points, rows), reference(logits[rows], points)
        grad, expected_grad = (torch.autograd.grad(v.square().sum(), logits)[0] for v in (values, expected))
        torch.testing.assert_close(grad, expected_grad)

    def test_known_values_are_not_computed_again(self):
        logits, points = scene()
        known = torch.full(points.shape[:2], 7.0)
        values = sample_logits(logits.requires_grad_(), points, None, known)
        assert torch.equal(values, known)
        assert values.requires_grad

    def test_gradcheck(self):
        logits, points = scene(dtype=torch.float64, height=4, width=5, num_points=6)
        assert torch.autograd.gradcheck(lambda x: sample_logits(x, points), logits.requires_grad_())

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision_is_sampled_in_float32(self, dtype):
        logits, points = scene(dtype=dtype)
        points = points.float()
        values = sample_logits(logits.requires_grad_(), points)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, reference(logits.detach().float(), points))
        values.sum().backward()
        assert logits.grad.dtype == dtype

    def test_shared_points(self):
        logits, points = scene(number=40)
        values = torch.empty(40, points.shape[1])
        sample_into(values, logits, points[0])
        torch.testing.assert_close(values, reference(logits, points[:1].expand(40, -1, -1)))

    @pytest.mark.cuda
    @pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
    def test_cuda_equals_cpu(self):
        logits, points = scene()
        expected = sample_logits(logits.requires_grad_(), points)
        (expected_grad,) = torch.autograd.grad(expected.square().sum(), logits)
        on_device = logits.detach().cuda().requires_grad_()
        values = sample_logits(on_device, points.cuda())
        (grad,) = torch.autograd.grad(values.square().sum(), on_device)
        torch.testing.assert_close(values.cpu(), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(grad.cpu(), expected_grad, rtol=1e-4, atol=1e-4)


class TestUncertainPoints:
    @pytest.mark.parametrize('path', golden_files('mask2former_[0-9].npz'))
    def test_golden_draws_give_the_golden_points(self, path):
        golden = load_golden(path)
        count, images = golden['num_points'], golden['mask_logits'].shape[1]
        share = golden['importance_sample_ratio']
        for layer in range(golden['num_layers']):
            queries = [golden[f'match_query_{layer}_{image}'] for image in range(images)]
            maps = torch.cat([golden['mask_logits'][layer, image, query] for image, query in enumerate(queries)])
            draws = (golden[f'uniform_draw_{layer}'], golden[f'random_draw_{layer}'])
            points, values = uncertain_points(maps, count, golden['oversample_ratio'], share, draws=draws)
            expected = golden[f'loss_coords_{layer}']
            chosen = int(share * count)
            assert as_sets(points[:, :chosen]) == as_sets(expected[:, :chosen])
            assert torch.equal(points[:, chosen:], expected[:, chosen:])
            torch.testing.assert_close(values, reference(maps, points))

    def test_the_smallest_of_the_drawn_are_chosen(self):
        maps, _ = scene()
        draws = (torch.rand(3, 90, 2), torch.rand(3, 8, 2))
        points, values = uncertain_points(maps, 30, draws=draws)
        drawn = reference(maps, draws[0]).abs().sort(1).values
        assert torch.equal(values[:, :22].abs().sort(1).values, drawn[:, :22])
        assert torch.equal(points[:, 22:], draws[1])

    @pytest.mark.parametrize(('ratio', 'share'), [(1.0, 1.0), (1.0, 0.0), (3.0, 0.75), (2.5, 0.3)])
    def test_shapes(self, ratio, share):
        points, values = uncertain_points(scene()[0], 33, ratio, share)
        assert points.shape == (3, 33, 2)
        assert values.shape == (3, 33)
        assert ((points >= 0) & (points < 1)).all()

    def test_errors(self):
        maps, _ = scene()
        with pytest.raises(ValueError, match='num_points must be at least 1, got 0'):
            uncertain_points(maps, 0)
        with pytest.raises(ValueError, match=r'oversample_ratio must be at least 1, got 0\.5; fewer points cannot'):
            uncertain_points(maps, 4, 0.5)
        with pytest.raises(ValueError, match=r'importance_sample_ratio is a share, 0 to 1, got 1\.5'):
            uncertain_points(maps, 4, 3, 1.5)
        with pytest.raises(ValueError, match=r'expected draws of the shapes \(\(3, 12, 2\), \(3, 1, 2\)\), got'):
            uncertain_points(maps, 4, draws=(torch.rand(3, 12, 2), torch.rand(3, 2, 2)))

    def test_a_generator_repeats_its_draws(self):
        maps, _ = scene()
        one, two = (uncertain_points(maps, 50, generator=torch.Generator().manual_seed(5))[0] for _ in range(2))
        assert torch.equal(one, two)
        assert not torch.equal(one, uncertain_points(maps, 50, generator=torch.Generator().manual_seed(6))[0])

    def test_what_takes_no_part_comes_last(self):
        maps, _ = scene(height=30, width=30)
        left = lambda points: points[..., 0] < 0.5  # noqa: E731
        points, _ = uncertain_points(maps, 400, valid_points=left)
        assert left(points[:, :300]).all()
        few, _ = uncertain_points(maps, 400, valid_points=lambda points: points[..., 0] < 0.1)
        inside = (few[:, :300, 0] < 0.1).sum(1)  # about 120 of the 1200 drawn, all of them chosen
        assert ((inside > 70) & (inside < 180)).all()

    def test_the_rest_lies_anywhere(self):
        """Kolmogorov-Smirnov against the uniform distribution, both coordinates, over 4,000 points."""
        points, _ = uncertain_points(torch.randn(1, 8, 8), 16000, generator=torch.Generator().manual_seed(0))
        for axis in range(2):
            assert stats.kstest(points[0, 12000:, axis].numpy(), 'uniform').pvalue > 0.01

    def test_chosen_points_follow_the_uncertainty(self):
        """A ramp x - 1/2: |logit| grows with the distance from the middle, so the chosen quarter is the middle one.

        With 3 P drawn and 0.75 P chosen, a quarter of the drawn points is kept: those with x in 3/8 to 5/8, uniform.
        At the upper and lower edge logits fade to the 0 outside, so that all points there are uncertain.
        """
        ramp = ((torch.arange(64) + 0.5) / 64 - 0.5).expand(1, 64, 64).contiguous()
        points, values = uncertain_points(ramp, 8000, generator=torch.Generator().manual_seed(1))
        inside = (points[0, :6000, 1] - 0.5).abs() < 0.5 - 1 / 128
        x = points[0, :6000, 0][inside].numpy()
        assert np.abs(x - 0.5).max() < 0.125 * 1.05
        assert stats.kstest((x - x.min()) / np.ptp(x), 'uniform').pvalue > 0.01
        torch.testing.assert_close(values[0, :6000][inside].numpy(), x - 0.5, rtol=0, atol=1e-5)

    @pytest.mark.skipif(bool(problem_with('mmdet')), reason='needs mmdet')
    def test_statistically_equals_mmdet(self):
        """The |logit| of the points chosen by either, 20,000 each, come from one distribution."""
        from mmdet.models.utils import get_uncertain_point_coords_with_randomness as theirs

        torch.manual_seed(3)
        maps = 2 * torch.randn(4, 16, 16)
        points = theirs(maps[:, None], None, 5000, 3.0, 0.75)
        ours, values = uncertain_points(maps, 5000)
        assert stats.ks_2samp(values.abs().flatten(), reference(maps, points).abs().flatten()).pvalue > 0.01
        for axis in range(2):
            assert stats.ks_2samp(ours[..., axis].flatten(), points[..., axis].flatten()).pvalue > 0.01

    def test_without_maps(self):
        points, values = uncertain_points(torch.zeros(0, 4, 4), 10)
        assert points.shape == (0, 10, 2)
        assert values.shape == (0, 10)

    @pytest.mark.cuda
    @pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
    def test_cuda_equals_cpu(self):
        maps, _ = scene()
        draws = (torch.rand(3, 90, 2), torch.rand(3, 8, 2))
        points, _ = uncertain_points(maps, 30, draws=draws)
        on_device, _ = uncertain_points(maps.cuda(), 30, draws=tuple(draw.cuda() for draw in draws))
        assert as_sets(on_device.cpu()) == as_sets(points)
        generator = torch.Generator('cuda').manual_seed(0)
        assert uncertain_points(maps.cuda(), 30, generator=generator)[0].is_cuda


def test_sorting_keeps_the_points():
    points = draw_points((2, 3, 50), torch.zeros(1))
    assert points.shape == (2, 3, 50, 2)
    ordered = sort_points(points, 8, 10)
    for old, new in zip(points.flatten(0, 1), ordered.flatten(0, 1), strict=True):
        assert sorted(map(tuple, old.tolist())) == sorted(map(tuple, new.tolist()))
        pixel = (new[:, 1] * 8).floor() * 10 + (new[:, 0] * 10).floor()
        assert (pixel.diff() >= 0).all()


def as_sets(points):
    return [set(map(tuple, row.tolist())) for row in points]
