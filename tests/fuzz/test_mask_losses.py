"""Losses of masks, drawn at random, beside float64 formulas: values and gradients, on both paths."""

import torch
from hypothesis import strategies as st

from mmplugins.registry import MODELS
from tests.fuzz import mask_references as reference
from tests.fuzz.cases import (
    BROKEN,
    DTYPES,
    LAYOUTS,
    LOGITS,
    SEEDS,
    broken_at,
    close,
    fuzz,
    layout,
    on_both_paths,
    random_logits,
)

MASKS = (torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64)
SIZES = st.tuples(st.integers(1, 9), st.integers(1, 11))
SCENES = dict(
    seed=SEEDS,
    number=st.integers(0, 4),
    low=SIZES,
    size=SIZES,
    logits=st.sampled_from(LOGITS),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(LAYOUTS),
    mask_type=st.sampled_from(MASKS),
    mask_kind=st.sampled_from(LAYOUTS),
    foreground=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    ignore=st.sampled_from([None, None, 'nothing', 'some', 'half', 'all']),
    one_map=st.booleans(),
    avg_factor=st.sampled_from([None, 1.0, 3.5]),
    broken=st.sampled_from([None, None, None, *BROKEN]),
)


class Scene:
    """Logits, masks and what is ignored."""

    def __init__(
        self,
        seed,
        number,
        low,
        size,
        logits,
        dtype,
        kind,
        mask_type,
        mask_kind,
        foreground,
        ignore,
        one_map,
        avg_factor,
        broken,
    ):
        self.generator = generator = torch.Generator().manual_seed(seed)
        # float32 resizes large logits to 1e-3
        self.dtype = dtype = torch.float64 if logits in ('large', 'huge') else dtype
        masks = torch.rand(number, *size, generator=generator, dtype=torch.float64)
        masks = masks.to(mask_type) if mask_type.is_floating_point else (masks < foreground).to(mask_type)
        self.masks = layout(masks, mask_kind)
        self.valid = None
        if ignore is not None:
            self.valid = torch.ones(*([] if one_map else [number]), *size, dtype=torch.bool)
            if ignore == 'some':
                self.valid = torch.rand(self.valid.shape, generator=generator) < 0.7
            elif ignore == 'half':
                self.valid[..., size[0] // 2 :, :] = False
            elif ignore == 'all':
                self.valid[:] = False
        pred = random_logits(generator, (number, *low), logits, dtype)
        if low[0] > size[0] or low[1] > size[1]:
            broken = None  # what shrinks leaves logits out, or takes 0 times them
        self.broken = broken
        if broken is not None:
            where = torch.ones(pred.shape, dtype=torch.bool)
            pred = broken_at(pred, where, broken, generator)
        self.pred = layout(pred, kind).detach()
        self.avg_factor = avg_factor

    def compare(self, loss, formula, **call):
        exact = self.pred.double().requires_grad_()
        elements = formula(exact, self.masks.double(), self.valid)
        factor = (self.avg_factor or max(len(exact), 1)) + reference.EPS
        expected = [value.sum() / factor for value in elements]
        finite = all(value.isfinite() for value in expected)
        expected_grad = torch.autograd.grad(expected[0] + 2 * expected[1], exact)[0].to(self.dtype) if finite else None
        precision = torch.promote_types(self.dtype, torch.float32)

        def test():
            pred = self.pred.detach().requires_grad_()
            values = loss(pred, self.masks, avg_factor=self.avg_factor, valid=self.valid, **call)
            assert list(values) == ['loss_mask', 'loss_dice']
            if self.broken is None or finite:
                for value, wanted in zip(values.values(), expected, strict=True):
                    close(value, wanted, precision, 'loss', scale=0.2)
                (grad,) = torch.autograd.grad(values['loss_mask'] + 2 * values['loss_dice'], pred)
                close(grad, expected_grad, self.dtype, 'gradient', scale=0.2)
            else:  # a broken prediction is never a finite loss
                assert not all(value.isfinite() for value in values.values())

        on_both_paths(test)


@fuzz(
    'DenseMaskLoss',
    alpha=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    gamma=st.sampled_from([0.0, 1.0, 2.0, 2.5]),
    **SCENES,
)
def test_dense(alpha, gamma, **drawn):
    scene = Scene(**drawn)
    loss = MODELS.build(dict(type='mmplugins.DenseMaskLoss', alpha=alpha, gamma=gamma))
    scene.compare(loss, lambda logits, masks, valid: reference.dense(logits, masks, valid, alpha, gamma))


@fuzz('PointSampledMaskLoss', points=st.sampled_from([1, 2, 7, 40]), edges=st.booleans(), **SCENES)
def test_on_given_points(points, edges, **drawn):
    scene = Scene(**drawn)
    coords = torch.rand(len(scene.pred), points, 2, generator=scene.generator, dtype=torch.float64)
    if edges and scene.valid is None:  # at a pixel's centre rounding decides whether its neighbour counts
        coords = (coords * 4).round() / 4
    coords = coords.float()
    loss = MODELS.build(dict(type='mmplugins.PointSampledMaskLoss', num_points=points))
    scene.compare(
        loss,
        lambda logits, masks, valid: reference.on_points(logits, masks, coords.double(), valid),
        point_coords=coords,
    )


@fuzz(
    'PointSampledMaskLoss',
    points=st.sampled_from([1, 2, 7, 40]),
    oversample=st.sampled_from([1.0, 3.0, 4.5]),
    importance=st.sampled_from([0.0, 0.75, 1.0]),
    **SCENES,
)
def test_points_that_are_drawn_give_losses_in_their_bounds(points, oversample, importance, **drawn):
    scene = Scene(**drawn)
    settings = dict(num_points=points, oversample_ratio=oversample, importance_sample_ratio=importance)
    loss = MODELS.build(dict(type='mmplugins.PointSampledMaskLoss', **settings))

    def test():
        pred = scene.pred.detach().requires_grad_()
        values = loss(pred, scene.masks, valid=scene.valid, generator=torch.Generator().manual_seed(0))
        total = sum(values.values())
        total.backward()
        assert pred.grad.shape == pred.shape
        if scene.broken is None:
            assert pred.grad.isfinite().all()
            assert -1e-6 <= values['loss_dice'] <= 1
            assert -1e-6 <= values['loss_mask'] <= pred.detach().abs().amax() + 1 if len(pred) else total == 0

    on_both_paths(test)
