import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmplugins.functional import upsampled
from mmplugins.functional.device import plain_path
from mmplugins.functional.pixels.cross_entropy import pixel_cross_entropy, summed_cross_entropy
from mmplugins.functional.pixels.soft_jaccard import soft_jaccard_loss
from mmplugins.functional.upsampled import UpsampledLogits, count_correct, over_blocks

SIZE = st.integers(1, 20)
LOSSES = {
    'pixel_cross_entropy': lambda x, label, weight: pixel_cross_entropy(x, label, 255) * weight,
    'summed_cross_entropy': lambda x, label, weight: summed_cross_entropy(x, label, 255, weight),
    'soft_jaccard_loss': lambda x, label, weight: soft_jaccard_loss(x, label, 255, weight),
}


def case(dtype=torch.float64, size=(13, 18)):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 4, 5, 6, generator=generator, dtype=dtype)
    label = torch.randint(0, 4, (2, *size), generator=generator)
    label[:, 0, :3] = 255
    return logits.requires_grad_(), label, torch.rand(2, *size, generator=generator, dtype=dtype)


@settings(max_examples=60, deadline=None)
@given(SIZE, SIZE, SIZE, SIZE, st.booleans(), st.booleans(), st.sampled_from([1, 100, 1 << 20]))
def test_blocks_are_those_of_interpolate(height, width, full_height, full_width, align_corners, plain, elements):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upsampled, '_CPU_ELEMENTS', elements)
        patch.setattr(upsampled, '_ELEMENTS', elements)
        if plain:
            patch.setattr(upsampled, 'cpu_kernels', lambda x: False)
        logits = torch.randn(2, 3, height, width, dtype=torch.float64, requires_grad=True)
        field = torch.randn(2, 3, full_height, full_width, dtype=torch.float64)
        found = torch.empty_like(field)

        def visit(image, rows, x):
            found[image, :, rows] = x.transpose(0, 1)
            return field[image, :, rows].transpose(0, 1)

        lazy = UpsampledLogits(logits.detach(), field.shape[2:], align_corners)
        grad = over_blocks(lazy, visit, with_grad=True)
        expected = F.interpolate(logits, field.shape[2:], mode='bilinear', align_corners=align_corners)
        torch.testing.assert_close(lazy.full(), expected.detach())
        difference = expected.detach() - found  # the same for all classes of a pixel
        torch.testing.assert_close(difference, difference[:, :1].expand_as(difference))
        torch.testing.assert_close(grad, torch.autograd.grad(expected, logits, field)[0])
        rows, columns = torch.arange(0, full_height, 2), torch.arange(full_width)
        torch.testing.assert_close(lazy.points(rows, columns), expected[:, :, ::2].detach())


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('name', LOSSES)
def test_gradcheck(name, align_corners, each_path):
    logits, label, weight = case(size=(7, 9))

    def loss(x):
        return LOSSES[name](UpsampledLogits(x, label.shape[1:], align_corners), label, weight)

    assert torch.autograd.gradcheck(loss, logits)


@pytest.mark.parametrize('name', LOSSES)
def test_equals_the_loss_of_full_logits(name, each_path):
    logits, label, weight = case(torch.float32)
    value = LOSSES[name](lazy := UpsampledLogits(logits, label.shape[1:]), label, weight)
    expected = LOSSES[name](lazy.full(), label, weight)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    (grad,), (expected_grad,) = (torch.autograd.grad(x.sum(), logits) for x in (value, expected))
    torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', LOSSES)
def test_a_second_derivative_raises(name):
    logits, label, weight = case()
    value = LOSSES[name](UpsampledLogits(logits, label.shape[1:]), label, weight).sum()
    (grad,) = torch.autograd.grad(value, logits, create_graph=True)
    with pytest.raises(RuntimeError, match='has a first derivative and no second one'):
        grad.square().sum().backward()


@pytest.mark.parametrize('name', LOSSES)
def test_without_images(name, each_path):
    logits, label, weight = case()
    value = LOSSES[name](UpsampledLogits(logits[:0], label.shape[1:]), label[:0], weight[:0]).sum()
    value.backward()
    assert float(value) == 0
    assert torch.count_nonzero(logits.grad) == 0


def test_large_logits_keep_their_digits(each_path):
    """What all classes of a pixel have in common changes nothing, however large; exact numbers of float32."""
    logits, label, _ = case(torch.float32, size=(5, 6))
    logits = logits.detach().mul(8).round().div(8).requires_grad_()
    shifted = (logits.detach() + 1024).requires_grad_()
    values = [summed_cross_entropy(UpsampledLogits(x, (5, 6)), label, 255) for x in (logits, shifted)]
    assert float(values[0]) == float(values[1])
    grads = [torch.autograd.grad(value, x)[0] for value, x in zip(values, (logits, shifted), strict=True)]
    assert torch.equal(*grads)


def test_correct_pixels_by_hand(each_path):
    """Two pixels become three columns, corners aligned; in the middle both classes are 1, and it counts."""
    logits = torch.tensor([[[[2.0, 0.0]], [[0.0, 2.0]]]])
    lazy = UpsampledLogits(logits, (1, 3), align_corners=True)
    assert int(count_correct(lazy, torch.tensor([[[0, 0, 1]]]), 255)) == 3
    assert int(count_correct(lazy, torch.tensor([[[1, 1, 0]]]), 255)) == 1
    assert int(count_correct(lazy, torch.tensor([[[0, 255, 255]]]), 255)) == 1
    assert int(count_correct(lazy, torch.tensor([[[0, 1, 7]]]), None)) == 2  # 7 is no class


def test_one_channel_is_class_0():
    assert int(count_correct(UpsampledLogits(torch.zeros(1, 1, 1, 1), (1, 3)), torch.tensor([[[0, 1, 0]]]), 255)) == 2


def test_shape_precision_and_graph():
    logits = torch.zeros(2, 1, 3, 4, dtype=torch.float16, requires_grad=True)
    lazy = UpsampledLogits(logits, torch.Size((6, 8)), True)
    assert (lazy.shape, lazy.dim(), len(lazy), lazy.dtype) == ((2, 1, 6, 8), 4, 2, torch.float16)
    assert lazy.squeeze(1).shape == (2, 6, 8)
    assert lazy.to(torch.float32).logits.requires_grad
    assert not lazy.detach().logits.requires_grad
    assert lazy.detach().align_corners
    with pytest.raises(ValueError, match=r'expected logits \(N, C, h, w\) or \(N, h, w\), got \(3, 4\)'):
        UpsampledLogits(torch.zeros(3, 4), (6, 8))


def test_a_block_is_much_smaller_than_the_map():
    sizes = []
    for path in (False, True):
        with plain_path() if path else torch.no_grad():
            shape = (1, 19, 1025, 2049) if path else (1, 19, 385, 769)
            low = torch.zeros(*shape[:2], 5, 5)
            over_blocks(UpsampledLogits(low, shape[2:]), lambda image, rows, x: sizes.append(x.numel()))
            assert sum(sizes) == torch.Size(shape).numel()
            assert max(sizes) <= (upsampled._ELEMENTS if path else upsampled._CPU_ELEMENTS * torch.get_num_threads())
            sizes.clear()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('name', LOSSES)
def test_cuda_equals_cpu(name):
    logits, label, weight = case(torch.float32)
    expected = LOSSES[name](UpsampledLogits(logits, label.shape[1:]), label, weight)
    on_device = logits.detach().cuda().requires_grad_()
    value = LOSSES[name](UpsampledLogits(on_device, label.shape[1:]), label.cuda(), weight.cuda())
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-5, atol=1e-5)
    (grad,), (expected_grad,) = torch.autograd.grad(value.sum(), on_device), torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(grad.cpu(), expected_grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', LOSSES)
def test_runs_on_another_device(name):
    """On torch's 'meta' device, what does not lie on the logits' device, or asks it for a value, raises."""
    logits, label, weight = (x.detach().to('meta') for x in case(torch.float32))
    value = LOSSES[name](UpsampledLogits(logits.requires_grad_(), label.shape[1:]), label, weight)
    (grad,) = torch.autograd.grad(value.sum(), logits)
    assert (grad.device.type, grad.shape) == ('meta', logits.shape)
    assert count_correct(UpsampledLogits(logits, label.shape[1:]), label, 255).device.type == 'meta'
