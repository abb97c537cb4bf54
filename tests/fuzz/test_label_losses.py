"""Losses on label maps, drawn at random, beside float64 formulas: values and gradients, on both paths."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume
from hypothesis import strategies as st

from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.registry import MODELS
from tests.fuzz import pixel_references as reference
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

SCENES = dict(
    seed=SEEDS,
    images=st.integers(0, 3),
    classes=st.integers(2, 6),
    size=st.tuples(st.integers(0, 9), st.integers(0, 11)),
    logits=st.sampled_from(LOGITS),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(LAYOUTS),
    label_type=st.sampled_from([torch.uint8, torch.int16, torch.int32, torch.int64]),
    label_kind=st.sampled_from(LAYOUTS[:4]),
    ignore=st.sampled_from(['none', 'some', 'most', 'all', 'first image']),
    ignore_index=st.sampled_from([255, 254, None]),
    weight=st.sampled_from([None, 'random', 'some zero', 'zero']),
    reduction=st.sampled_from(['mean', 'mean', 'sum', 'none']),
    avg_factor=st.sampled_from([None, None, 0.0, 3.5]),
    broken=st.sampled_from([None, None, None, *BROKEN]),
    broken_place=st.sampled_from(['valid', 'ignored']),
    low=st.sampled_from([None, None, (1, 1), (3, 4), (5, 2)]),
    align_corners=st.booleans(),
)


class Scene:
    """Arguments of a loss on label maps, and what the reference takes."""

    def __init__(
        self,
        seed,
        images,
        classes,
        size,
        logits,
        dtype,
        kind,
        label_type,
        label_kind,
        ignore,
        ignore_index,
        weight,
        reduction,
        avg_factor,
        broken,
        broken_place,
        low,
        align_corners,
    ):
        self.generator = generator = torch.Generator().manual_seed(seed)
        low = None if 0 in size else low
        dtype = torch.float64 if low and logits in ('large', 'huge') else dtype  # float32 upsamples these to 1e-3
        label = torch.randint(0, classes, (images, *size), generator=generator)
        ignored = torch.zeros_like(label, dtype=torch.bool)
        if ignore_index is not None:
            share = {'none': 0, 'some': 0.3, 'most': 0.9, 'all': 1, 'first image': 0}[ignore]
            ignored |= torch.rand(label.shape, generator=generator) < share
            ignored[:1] |= ignore == 'first image'
        self.valid = ~ignored
        self.label = layout(label.masked_fill(ignored, ignore_index or 0).to(label_type), label_kind)
        pred = random_logits(generator, (images, classes, *(low or size)), logits, dtype)
        self.broken = None if low else broken
        if self.broken is not None:
            where = (self.valid if broken_place == 'valid' else ignored)[:, None]
            pred = broken_at(pred, where, broken, generator)
            self.broken_valid = broken_place == 'valid'
        self.pred = layout(pred, kind).detach()
        self.dtype, self.size, self.low, self.align_corners = dtype, size, low, align_corners
        self.weight = None
        if weight is not None:
            self.weight = torch.rand(label.shape, generator=generator) * (weight != 'zero')
            if weight == 'some zero':
                self.weight *= torch.rand(label.shape, generator=generator) < 0.5
        self.class_weights = torch.rand(classes, generator=generator).mul(2).tolist()
        self.reduction, self.avg_factor = reduction, avg_factor if reduction == 'mean' else None
        self.ignore_index = ignore_index

    def full(self, pred):
        """Logits in float64 at the size of the label."""
        pred = pred.double()
        if self.low and not len(pred):
            return pred.new_zeros(0, pred.shape[1], *self.size) + pred.sum()
        if self.low:
            return F.interpolate(pred, self.size, mode='bilinear', align_corners=self.align_corners)
        return pred

    def weights(self):
        return torch.ones(self.label.shape, dtype=torch.float64) if self.weight is None else self.weight.double()

    def compare(self, loss, formula, **call):
        """Compares value and gradient of a loss with those of a formula of the logits: elements and divisor."""
        exact = self.pred.double().requires_grad_()
        clean = exact
        if self.broken is not None and not self.broken_valid:  # what is ignored may hold anything
            clean = torch.where(self.valid[:, None], exact, 0.0)
        elements, count = formula(self.full(clean))
        expected = reference.reduced(elements, count, self.reduction, self.avg_factor)
        expected_grad = None
        if expected.isfinite().all() and expected.requires_grad:
            expected_grad = torch.autograd.grad(expected.sum(), exact)[0]

        scale = 0.1 if self.avg_factor is None else 0.1 / min(self.avg_factor + 1.2e-7, 1)

        def test():
            pred = self.pred.detach().requires_grad_()
            given = UpsampledLogits(pred, self.size, self.align_corners) if self.low else pred
            value = loss(given, self.label, weight=self.weight, avg_factor=self.avg_factor, **call)
            precision = torch.promote_types(self.dtype, torch.float32)
            assert value.dtype == precision
            assert value.requires_grad
            close(value, expected, precision, 'loss', scale=scale)
            if expected_grad is not None:
                (grad,) = torch.autograd.grad(value.sum(), pred)
                close(grad, expected_grad.to(self.dtype), self.dtype, 'gradient', scale=scale)

        on_both_paths(test)


def build(name, scene, **settings):
    return MODELS.build(
        dict(type=f'mmplugins.{name}', reduction=scene.reduction, ignore_index=scene.ignore_index, **settings)
    )


@fuzz(
    'OhemCrossEntropyLoss',
    thresh=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    min_kept=st.sampled_from([0, 1, 7, 50, 10**6, 0.1, 0.5]),
    class_weight=st.booleans(),
    **SCENES,
)
def test_ohem(thresh, min_kept, class_weight, **drawn):
    scene = Scene(**drawn)
    weights = torch.tensor(scene.class_weights) if class_weight else None

    def formula(logits):
        return reference.ohem(logits, scene.label.long(), scene.valid, scene.weights(), weights, thresh, min_kept)

    if formula(scene.full(scene.pred))[2] < 1e-5:  # float32 may choose otherwise
        scene.pred, scene.dtype = scene.pred.double(), torch.float64
        assume(formula(scene.full(scene.pred))[2] > 1e-12 or thresh == 1)
    loss = build(
        'OhemCrossEntropyLoss',
        scene,
        thresh=thresh,
        min_kept=min_kept,
        class_weight=scene.class_weights if class_weight else None,
    )
    scene.compare(loss, lambda logits: formula(logits)[:2])


@fuzz(
    'TopKCrossEntropyLoss',
    share=st.sampled_from([0.01, 0.15, 0.5, 1.0]),
    class_weight=st.booleans(),
    **SCENES,
)
def test_top_k(share, class_weight, **drawn):
    scene = Scene(**drawn)
    weights = torch.tensor(scene.class_weights) if class_weight else None

    def formula(logits):
        return reference.top_k(logits, scene.label.long(), scene.valid, scene.weights(), weights, share)

    gap = reference.top_k_gap(scene.full(scene.pred), scene.label.long(), scene.valid, weights, share)
    assume(gap > 1e-12)  # which of several equal losses is kept is not said
    if gap < 1e-4:
        scene.pred, scene.dtype = scene.pred.double(), torch.float64

    loss = build(
        'TopKCrossEntropyLoss',
        scene,
        top_k_percent_pixels=share,
        hard_example_mining_step=0,
        class_weight=scene.class_weights if class_weight else None,
    )
    scene.compare(loss, formula)


@fuzz('SoftJaccardLoss', **SCENES)
def test_soft_jaccard(**drawn):
    scene = Scene(**drawn)
    if scene.broken is not None:  # as documented, the loss is NaN wherever a logit is: valid or not
        scene.broken_valid = True
    scene.compare(
        build('SoftJaccardLoss', scene),
        lambda logits: reference.soft_jaccard(logits, scene.label.long(), scene.valid, scene.weights()),
    )


@pytest.mark.parametrize('name', ['OhemCrossEntropyLoss', 'TopKCrossEntropyLoss', 'SoftJaccardLoss'])
def test_labels_out_of_range_are_named(name):
    loss = MODELS.build(dict(type=f'mmplugins.{name}'))
    with pytest.raises(ValueError, match='labels hold 4'):
        loss(torch.zeros(1, 4, 2, 2), torch.full((1, 2, 2), 4))
