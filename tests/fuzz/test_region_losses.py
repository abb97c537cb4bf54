"""Losses on binary masks, drawn at random, beside float64 formulas: values and gradients, on both paths."""

import pytest
import torch
import torch.nn.functional as F
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

MASKS = (torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64)
SCENES = dict(
    seed=SEEDS,
    images=st.integers(0, 3),
    size=st.tuples(st.integers(0, 9), st.integers(0, 11)),
    logits=st.sampled_from(LOGITS),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(LAYOUTS),
    mask_type=st.sampled_from(MASKS),
    mask_kind=st.sampled_from(LAYOUTS[:4]),
    channel=st.booleans(),
    foreground=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    ignore=st.sampled_from(['none', 'some', 'all', 'first image', 'padding']),
    ignore_index=st.sampled_from([255, 7, None]),
    weight=st.sampled_from([None, 'random', 'some zero', 'zero']),
    reduction=st.sampled_from(['mean', 'mean', 'sum', 'none']),
    avg_factor=st.sampled_from([None, None, 0.0, 3.5]),
    broken=st.sampled_from([None, None, None, *BROKEN]),
    broken_place=st.sampled_from(['valid', 'ignored']),
    low=st.sampled_from([None, None, (1, 1), (3, 4), (5, 2)]),
    align_corners=st.booleans(),
)


def is_padding(ignored):
    """Whether what is ignored in each image are whole rows and columns."""
    for one in ignored:
        rows, columns = (~one).any(1), (~one).any(0)
        if not torch.equal(~one, rows[:, None] & columns):
            return False
    return True


def check(
    name,
    formula,
    seed,
    images,
    size,
    logits,
    dtype,
    kind,
    mask_type,
    mask_kind,
    channel,
    foreground,
    ignore,
    ignore_index,
    weight,
    reduction,
    avg_factor,
    broken,
    broken_place,
    low,
    align_corners,
    **settings,
):
    generator = torch.Generator().manual_seed(seed)
    low = None if 0 in size else low
    dtype = torch.float64 if low and logits in ('large', 'huge') else dtype
    mask = torch.rand(images, *size, generator=generator, dtype=torch.float64)
    mask = mask.to(mask_type) if mask_type.is_floating_point else (mask < foreground).to(mask_type)
    ignored = torch.zeros(images, *size, dtype=torch.bool)
    if ignore_index is not None and mask_type in (torch.uint8, torch.int64):
        ignored = torch.rand(images, *size, generator=generator) < {'some': 0.3, 'all': 1}.get(ignore, 0)
        ignored[:1] |= ignore == 'first image'
        if ignore == 'padding' and images:
            ignored[0, size[0] // 2 :] = True
        mask[ignored] = ignore_index
    like_8_bit = ignore_index == 255 and bool(ignored.any()) and not (mask == 1).any() and not is_padding(ignored)
    pred = random_logits(generator, (images, 1, *(low or size)), logits, dtype)
    weights = None
    if weight is not None:
        weights = torch.rand(images, *size, generator=generator) * (weight != 'zero')
        if weight == 'some zero':
            weights *= torch.rand(images, *size, generator=generator) < 0.5
    count = (~ignored).double() * (1 if weights is None else weights.double())
    broken = None if low else broken
    if broken is not None:
        where = (count != 0) if broken_place == 'valid' else count == 0
        pred = broken_at(pred, where[:, None], broken, generator)
    pred = layout(pred, kind).detach()
    given_mask = layout(mask[:, None] if channel else mask, mask_kind)
    loss = MODELS.build(dict(type=f'mmplugins.{name}', reduction=reduction, ignore_index=ignore_index, **settings))
    if like_8_bit:
        with pytest.raises(ValueError, match='hold 0 and 255 but no 1'):
            loss(pred if not low else UpsampledLogits(pred, size), given_mask)
        return

    exact = pred.double().requires_grad_()
    full = exact[:, 0]
    if low and images:
        full = F.interpolate(exact, size, mode='bilinear', align_corners=align_corners)[:, 0]
    elif low:
        full = exact.new_zeros(0, *size) + exact.sum()
    elements, images_counted = formula(full, (mask.double()).masked_fill(ignored, 0), count)
    avg_factor = avg_factor if reduction == 'mean' else None
    expected = reference.reduced(elements, images_counted, reduction, avg_factor)
    expected_grad = None
    if expected.isfinite().all():
        expected_grad = torch.autograd.grad(expected.sum(), exact)[0].to(dtype)
    precision = torch.promote_types(dtype, torch.float32)
    scale = 0.1 if avg_factor is None else 0.1 / min(avg_factor + 1.2e-7, 1)

    def test():
        leaf = pred.detach().requires_grad_()
        given = UpsampledLogits(leaf, size, align_corners) if low else leaf
        value = loss(given, given_mask, weight=weights, avg_factor=avg_factor)
        assert value.dtype == precision
        close(value, expected, precision, 'loss', scale)
        if expected_grad is not None:
            close(torch.autograd.grad(value.sum(), leaf)[0], expected_grad, dtype, 'gradient', scale)

    on_both_paths(test)


@fuzz('SoftIoULoss', **SCENES)
def test_soft_iou(**drawn):
    check('SoftIoULoss', lambda logits, mask, count: reference.region(logits, mask, count, 'none'), **drawn)


@fuzz('BCEIoULoss', **SCENES)
def test_bce_iou(**drawn):
    check('BCEIoULoss', lambda logits, mask, count: reference.region(logits, mask, count, 'batch'), **drawn)


@fuzz(
    'StructureLoss',
    kernel_size=st.sampled_from([1, 3, 7, 31]),
    edge_weight=st.sampled_from([0.0, 5.0, 100.0]),
    variant=st.sampled_from(['paper', 'released']),
    **SCENES,
)
def test_structure(kernel_size, edge_weight, variant, **drawn):
    def formula(logits, mask, count):
        entropy = 'weighted' if variant == 'paper' else 'batch'
        return reference.region(logits, mask, count, entropy, (kernel_size, edge_weight))

    settings = dict(kernel_size=kernel_size, edge_weight=edge_weight, variant=variant)
    check('StructureLoss', formula, **drawn, **settings)
