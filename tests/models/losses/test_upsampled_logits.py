"""Every loss of label maps and of binary masks takes a head's own logits, and equals interpolate and the loss."""

import pytest
import torch

from mmplugins.functional import upsampled
from mmplugins.functional.pixels import regions
from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.registry import MODELS

WEIGHTS = [0.5, 1.0, 2.0, 0.0, 3.0]
LABEL_LOSSES = [
    dict(type='OhemCrossEntropyLoss', thresh=0.6, min_kept=300),
    dict(type='OhemCrossEntropyLoss', thresh=0.1, min_kept=0.2, class_weight=WEIGHTS),
    dict(type='OhemCrossEntropyLoss', thresh=0.3, min_kept=200, threshold_stride=4),
    dict(type='TopKCrossEntropyLoss', top_k_percent_pixels=0.3, hard_example_mining_step=0, class_weight=WEIGHTS),
    dict(type='SoftJaccardLoss'),
]
MASK_LOSSES = [
    dict(type='SoftIoULoss'),
    dict(type='BCEIoULoss'),
    dict(type='StructureLoss', kernel_size=5),
    dict(type='StructureLoss', kernel_size=5, variant='released'),
]
LOSSES = [pytest.param(loss, id=f'{loss["type"]}-{i}') for i, loss in enumerate(LABEL_LOSSES + MASK_LOSSES)]


def build(loss):
    return MODELS.build({**loss, 'type': f'mmplugins.{loss["type"]}'})


def case(loss, dtype=torch.float32, size=(23, 31)):
    """Logits, labels with ignored pixels, and weights."""
    generator = torch.Generator().manual_seed(0)
    classes = 5 if loss in LABEL_LOSSES else 1
    logits = 3 * torch.randn(2, classes, 6, 7, generator=generator, dtype=torch.float64)
    label = torch.randint(0, max(classes, 2), (2, *size), generator=generator)
    label[:, :3, 4:] = 255
    return logits.to(dtype).requires_grad_(), label, torch.rand(2, *size, generator=generator)


def compare(loss, logits, label, align_corners, tolerance=1e-5, **call):
    lazy = UpsampledLogits(logits, label.shape[1:], align_corners)
    value, expected = loss(lazy, label, **call), loss(lazy.full(), label, **call)
    assert value.shape == expected.shape
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
    (grad,), (expected_grad,) = (torch.autograd.grad(x.sum(), logits) for x in (value, expected))
    assert grad.dtype == logits.dtype
    assert float((grad - expected_grad).norm()) <= tolerance * float(expected_grad.norm())
    return value


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('loss', LOSSES)
def test_equals_interpolate_and_the_loss(loss, align_corners, each_path):
    logits, label, _ = case(loss)
    assert float(compare(build(loss), logits, label, align_corners)) > 0


@pytest.mark.parametrize('reduction', ['mean', 'sum', 'none'])
@pytest.mark.parametrize('loss', LOSSES)
def test_reductions_and_weights(loss, reduction, each_path):
    logits, label, weight = case(loss)
    compare(build(loss), logits, label, False, weight=weight, reduction_override=reduction)
    if reduction == 'mean':
        compare(build(loss), logits, label, False, weight=weight, avg_factor=7.0)


@pytest.mark.parametrize('loss', LOSSES)
def test_one_block_equals_many(loss, each_path, monkeypatch):
    logits, label, _ = case(loss, torch.float64)
    lazy = UpsampledLogits(logits, label.shape[1:])
    whole = build(loss)(lazy, label)
    (whole_grad,) = torch.autograd.grad(whole, logits)
    for module, names in ((upsampled, ('_CPU_ELEMENTS', '_ELEMENTS')), (regions, ('_CPU_CHUNK', '_CHUNK'))):
        for name in names:
            monkeypatch.setattr(module, name, 1)
    rows = build(loss)(lazy, label)
    torch.testing.assert_close(rows, whole)
    torch.testing.assert_close(torch.autograd.grad(rows, logits)[0], whole_grad)


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('loss', LOSSES)
def test_gradcheck(loss, align_corners, each_path):
    logits, label, _ = case(loss, torch.float64, size=(8, 9))
    compute = build(loss)
    assert torch.autograd.gradcheck(lambda x: compute(UpsampledLogits(x, (8, 9), align_corners), label), logits)


@pytest.mark.parametrize('loss', LOSSES)
def test_a_second_derivative_raises(loss):
    logits, label, _ = case(loss)
    (grad,) = torch.autograd.grad(build(loss)(UpsampledLogits(logits, (23, 31)), label), logits, create_graph=True)
    with pytest.raises(RuntimeError, match='has a first derivative and no second one'):
        grad.square().sum().backward()


@pytest.mark.parametrize('loss', LOSSES)
def test_everything_ignored_is_zero_and_attached(loss, each_path):
    logits, label, _ = case(loss)
    value = build(loss)(UpsampledLogits(logits, (23, 31)), torch.full_like(label, 255))
    value.backward()
    assert float(value) == 0
    assert torch.count_nonzero(logits.grad) == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('loss', LOSSES)
def test_half_logits_are_computed_in_float32(loss, dtype, each_path):
    logits, label, _ = case(loss, dtype)
    exact = logits.detach().float().requires_grad_()
    expected = build(loss)(UpsampledLogits(exact, (23, 31)), label)
    expected.backward()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = build(loss)(UpsampledLogits(logits, (23, 31)), label)
        value.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    torch.testing.assert_close(logits.grad, exact.grad.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize('loss', LOSSES)
def test_nan_logits_give_nan(loss, each_path):
    logits, label, _ = case(loss)
    with torch.no_grad():
        logits[0, :, 4, 3] = torch.nan
    assert torch.isnan(build(loss)(UpsampledLogits(logits, (23, 31)), label))


@pytest.mark.parametrize('loss', LOSSES)
def test_errors(loss):
    logits, label, _ = case(loss)
    with pytest.raises(TypeError, match=r'pred must be floating-point logits, got torch\.int64'):
        build(loss)(UpsampledLogits(logits.detach().long(), (23, 31)), label)
    with pytest.raises(ValueError, match='got'):
        build(loss)(UpsampledLogits(logits, (23, 30)), label)
    with pytest.raises(ValueError, match=r'labels hold 9|an integer mask must hold'):
        build(loss)(UpsampledLogits(logits, (23, 31)), label.masked_fill(label == 255, 9))
