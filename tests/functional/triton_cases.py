"""What ``test_upsampled_triton.py`` runs in a process of its own: on CUDA, or on Triton's interpreter.

The interpreter is chosen when Triton is first imported. It is slow, so that all sizes are tiny.
"""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmplugins.functional import upsampled, upsampled_triton
from mmplugins.functional.device import plain_path, without_triton
from mmplugins.functional.pixels import cross_entropy
from mmplugins.functional.pixels.cross_entropy import pixel_cross_entropy, summed_cross_entropy
from mmplugins.functional.upsampled import UpsampledLogits, count_correct, triton_kernels
from mmplugins.registry import MODELS

DEVICE = 'cpu' if os.environ.get('TRITON_INTERPRET') == '1' else 'cuda'
LOSSES = {
    'pixels': lambda x, label, weight: pixel_cross_entropy(x, label, 255) * weight,
    'sum': lambda x, label, weight: summed_cross_entropy(x, label, 255, weight),
    'sum without weights': lambda x, label, weight: summed_cross_entropy(x, label, 255),
}
SHAPES = {  # of the logits, and the size of the labels
    'enlarged': ((2, 4, 2, 2), (9, 7)),
    'one logit, many tiles': ((1, 3, 1, 1), (18, 33)),
    'the same size': ((1, 3, 3, 2), (3, 2)),
    'smaller': ((1, 5, 4, 3), (2, 3)),
    'one class': ((1, 1, 2, 1), (3, 4)),
}


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    """Lets the kernels alone serve ``UpsampledLogits``."""

    def refuse(*arguments, **settings):
        raise AssertionError('blocks of rows were taken')

    for module in (upsampled, cross_entropy):
        monkeypatch.setattr(module, 'over_blocks', refuse)
    with plain_path():
        yield


@pytest.fixture(autouse=True)
def bounds(monkeypatch):
    """On the interpreter, raises where a kernel reads or writes beside its tensors; counts what it looked at."""
    count = []
    if DEVICE == 'cpu':
        from triton.runtime.interpreter import InterpreterBuilder

        spans = []

        def launch(plan, kernel, images, *arguments, **flags):
            tables = plan.rows.first, plan.rows.fraction, plan.columns.first, plan.columns.fraction
            tensors = [plan.maps[images], *tables, *(x for x in arguments if isinstance(x, torch.Tensor))]
            spans[:] = [(x.data_ptr(), x.data_ptr() + x.nbytes) for x in tensors]
            return plain_launch(plan, kernel, images, *arguments, **flags)

        def guard(access, mask_place):
            def guarded(builder, pointers, *arguments):
                places = pointers.data[np.broadcast_to(arguments[mask_place].data, pointers.data.shape).astype(bool)]
                length = pointers.get_element_ty().primitive_bitwidth // 8
                inside = [(start <= places) & (places + length <= end) for start, end in spans]
                assert np.any(inside, axis=0).all(), 'a kernel reads or writes beside its tensors'
                count.append(len(places))
                return access(builder, pointers, *arguments)

            return guarded

        plain_launch = upsampled_triton._Plan.launch
        monkeypatch.setattr(upsampled_triton._Plan, 'launch', launch)
        for name, mask_place in (('create_masked_load', 0), ('create_masked_store', 1)):
            monkeypatch.setattr(InterpreterBuilder, name, guard(getattr(InterpreterBuilder, name), mask_place))
    return count


def case(name='enlarged', dtype=torch.float32):
    shape, size = SHAPES[name]
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    label = torch.randint(0, shape[1], (shape[0], *size), generator=generator)
    label[:, 0, :2] = 255
    weight = torch.rand(label.shape, generator=generator, dtype=dtype)
    return logits.to(DEVICE, dtype).requires_grad_(), label.to(DEVICE), weight.to(DEVICE)


def compare(loss, logits, label, weight, align_corners=False, tolerance=1e-5):
    """Compares value and gradient with those of the loss of upsampled logits."""
    lazy = UpsampledLogits(logits, label.shape[1:], align_corners)
    assert triton_kernels(lazy) is upsampled_triton
    full = F.interpolate(logits, lazy.size, mode='bilinear', align_corners=align_corners)
    value, expected = loss(lazy, label, weight), loss(full, label, weight)
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
    (grad,), (expected_grad,) = (torch.autograd.grad(x.sum(), logits) for x in (value, expected))
    torch.testing.assert_close(grad, expected_grad, rtol=tolerance, atol=tolerance)
    assert torch.count_nonzero(expected_grad) or logits.shape[1] == 1
    return value, grad


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('loss', LOSSES)
def test_equal_interpolate_and_the_loss(loss, align_corners):
    compare(LOSSES[loss], *case(), align_corners)


@pytest.mark.parametrize('shape', [name for name in SHAPES if name != 'enlarged'])
def test_other_shapes(shape):
    for align_corners, loss in ((False, 'pixels'), (True, 'sum')):
        compare(LOSSES[loss], *case(shape), align_corners)


def test_float64():
    compare(LOSSES['pixels'], *case('one logit, many tiles', torch.float64), tolerance=1e-12)
    compare(LOSSES['sum'], *case(dtype=torch.float64), tolerance=1e-12)


def test_every_access_is_looked_at(bounds):
    if DEVICE == 'cuda':
        pytest.skip('the interpreter alone shows what a kernel accesses')
    compare(LOSSES['sum'], *case())
    assert sum(bounds) > 1000


@pytest.mark.parametrize('loss', ['pixels', 'sum'])
def test_gradcheck(loss):
    logits, label, weight = case('one class', torch.float64)
    logits = torch.cat([logits.detach(), -logits.detach()], 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[loss](UpsampledLogits(x, label.shape[1:]), label, weight), logits)


@pytest.mark.parametrize('loss', ['pixels', 'sum'])
def test_classes_in_blocks_and_images_in_groups(loss, monkeypatch):
    value, grad = compare(LOSSES[loss], *case())
    monkeypatch.setattr(upsampled_triton, '_TILE_ELEMENTS', 1)
    monkeypatch.setattr(upsampled_triton, '_ELEMENTS', 1)
    cut_value, cut_grad = compare(LOSSES[loss], *case())
    torch.testing.assert_close(cut_value, value, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(cut_grad, grad, rtol=1e-6, atol=1e-6)


def test_any_layout_of_the_inputs():
    logits, label, weight = (x.detach() for x in case())
    strided = logits.to(memory_format=torch.channels_last).requires_grad_()
    label, weight = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (label, weight))
    compare(LOSSES['pixels'], strided, label, weight)
    compare(LOSSES['sum'], strided, label, weight)


@pytest.mark.parametrize('ignore_index', [2, -100, torch.iinfo(torch.int64).min])
def test_ignored_labels(ignore_index):
    """A class may be ignored, and nothing."""
    logits, label, weight = case()
    label = label.clamp(max=3)

    def loss(x, label, weight):
        return summed_cross_entropy(x, label, ignore_index, weight)

    compare(loss, logits, label, weight)


def test_everything_ignored():
    logits, label, weight = case()
    for loss in ('pixels', 'sum'):
        value = LOSSES[loss](UpsampledLogits(logits, label.shape[1:]), torch.full_like(label, 255), weight).sum()
        (grad,) = torch.autograd.grad(value, logits)
        assert float(value.detach()) == 0
        assert torch.count_nonzero(grad) == 0


def test_nan_logits_give_nan():
    logits, label, _ = case()
    with torch.no_grad():
        logits[0, :, 1, 1] = torch.nan
    lazy = UpsampledLogits(logits, label.shape[1:])
    assert torch.isnan(summed_cross_entropy(lazy, label, 255))
    pixels = pixel_cross_entropy(lazy, label, 255)
    assert torch.isnan(pixels[0]).any()
    assert not torch.isnan(pixels[1]).any()


def test_a_second_derivative_raises():
    logits, label, weight = case()
    value = LOSSES['pixels'](UpsampledLogits(logits, label.shape[1:]), label, weight).sum()
    (grad,) = torch.autograd.grad(value, logits, create_graph=True)
    with pytest.raises(RuntimeError, match='pixel_cross_entropy has a first derivative and no second one'):
        grad.square().sum().backward()


@pytest.mark.parametrize(
    'settings',
    [
        dict(type='OhemCrossEntropyLoss', thresh=0.6, min_kept=60, class_weight=[0.5, 1.0, 2.0, 0.0]),
        dict(type='OhemCrossEntropyLoss', thresh=0.3, min_kept=40, threshold_stride=2),
        dict(type='TopKCrossEntropyLoss', top_k_percent_pixels=0.3, hard_example_mining_step=0),
    ],
    ids=['ohem', 'ohem with a stride', 'topk'],
)
def test_hard_pixels(settings):
    module = MODELS.build({**settings, 'type': f'mmplugins.{settings["type"]}'}).to(DEVICE)
    value, _ = compare(lambda x, label, weight: module(x, label, weight=weight), *case(), align_corners=True)
    assert float(value) > 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_logits_are_computed_in_float32(dtype):
    """A loss casts its logits first: the value is that of float32, and nothing of autocast."""
    logits, label, weight = case(dtype=dtype)
    exact = logits.detach().float().requires_grad_()
    module = MODELS.build(dict(type='mmplugins.OhemCrossEntropyLoss', min_kept=60)).to(DEVICE)
    expected = module(UpsampledLogits(exact, label.shape[1:]), label, weight=weight)
    (expected_grad,) = torch.autograd.grad(expected, exact)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        value = module(UpsampledLogits(logits, label.shape[1:]), label, weight=weight)
        (grad,) = torch.autograd.grad(value, logits)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert torch.equal(grad, expected_grad.to(dtype))


def test_correct_pixels():
    logits, label, _ = case()
    lazy = UpsampledLogits(logits.detach(), label.shape[1:])
    expected = (lazy.full().argmax(1) == label).sum()
    assert int(count_correct(lazy, label, 255)) == int(count_correct(lazy, label, None)) == int(expected) > 0


def test_correct_pixels_by_hand():
    """As in test_upsampled.py: in the middle both classes are 1, and it counts."""
    lazy = UpsampledLogits(torch.tensor([[[[2.0, 0.0]], [[0.0, 2.0]]]], device=DEVICE), (1, 3), align_corners=True)
    for label, ignore_index, correct in (
        ([0, 0, 1], 255, 3),
        ([1, 1, 0], 255, 1),
        ([0, 255, 255], 255, 1),
        ([0, 1, 7], None, 2),
    ):
        assert int(count_correct(lazy, torch.tensor([[label]], device=DEVICE), ignore_index)) == correct


def test_the_backward_pass_follows_the_forward_pass():
    logits, label, _ = case()
    pixels = pixel_cross_entropy(UpsampledLogits(logits, label.shape[1:]), label, 255)
    (expected,) = torch.autograd.grad(pixels.sum(), logits, retain_graph=True)
    with without_triton():
        assert torch.equal(torch.autograd.grad(pixels.sum(), logits)[0], expected)


def test_the_same_bits_each_time():
    logits, label, weight = case()
    lazy = UpsampledLogits(logits, label.shape[1:])
    first, second = (torch.autograd.grad(LOSSES['sum'](lazy, label, weight), logits)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_what_the_kernels_leave_to_blocks():
    assert triton_kernels(UpsampledLogits(torch.zeros(1, 2, 3, 4, device=DEVICE), (6, 8))) is upsampled_triton
    for logits, size in (
        (torch.zeros(1, 2, 3, 4, dtype=torch.float16), (6, 8)),
        (torch.zeros(2, 3, 4), (6, 8)),
        (torch.zeros(0, 2, 3, 4), (6, 8)),
        (torch.zeros(1, 2, 3, 4), (0, 8)),
        (torch.zeros(1, 2, 3, 4, device='meta'), (6, 8)),
    ):
        logits = logits if logits.is_meta else logits.to(DEVICE)
        assert triton_kernels(UpsampledLogits(logits, size)) is None
    with without_triton():
        assert triton_kernels(UpsampledLogits(torch.zeros(1, 2, 3, 4, device=DEVICE), (6, 8))) is None
