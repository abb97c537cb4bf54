import pytest
import torch
import torch.nn.functional as F

from mmplugins.functional.pixels.cross_entropy import pixel_cross_entropy


def case(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 4, 5, 6, generator=generator, dtype=dtype)
    label = torch.randint(0, 4, (2, 5, 6), generator=generator)
    label[:, 0, :3] = 255
    return logits.requires_grad_(), label, torch.rand(2, 5, 6, generator=generator, dtype=dtype)


@pytest.mark.parametrize('share', [0.0, 0.1, 0.4, 0.9, 1.0])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_torchs_own_whatever_share_of_pixels_counts(share, dtype):
    logits, label, upstream = case(dtype)
    upstream = upstream * (torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(1)) < share)
    value = pixel_cross_entropy(logits, label, 255)
    expected = F.cross_entropy(logits, label, ignore_index=255, reduction='none')
    torch.testing.assert_close(value, expected)
    (grad,), (expected_grad,) = (torch.autograd.grad(x, logits, upstream) for x in (value, expected))
    torch.testing.assert_close(grad, expected_grad)
    assert grad.shape == logits.shape


def test_gradcheck_of_some_and_of_all_pixels():
    logits, label, upstream = case()
    few = upstream < 0.2
    assert torch.autograd.gradcheck(lambda x: pixel_cross_entropy(x, label, 255), logits)
    assert torch.autograd.gradcheck(lambda x: pixel_cross_entropy(x, label, 255)[few], logits)


def test_confident_and_infinite_logits():
    logits = torch.tensor([[[[200.0, -200.0, torch.inf]], [[0.0, 0.0, 0.0]]]], requires_grad=True)
    label = torch.zeros(1, 1, 3, dtype=torch.long)
    value = pixel_cross_entropy(logits, label, 255)
    assert value[0, 0, :2].tolist() == [0.0, 200.0]
    assert torch.isnan(value[0, 0, 2])
    (grad,) = torch.autograd.grad(value[0, 0, :2].sum(), logits)
    assert grad[0, 0, 0, :2].tolist() == [0.0, -1.0]


def test_backward_twice():
    logits, label, upstream = case()
    value = pixel_cross_entropy(logits, label, 255)
    first = torch.autograd.grad(value, logits, upstream, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(value, logits, upstream)[0], first)


@pytest.mark.usefixtures('each_path')
@pytest.mark.parametrize('value', [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize('counted', [1, 30])
def test_ignored_pixels_have_no_gradient_whatever_their_logits(value, counted):
    """Fuzzing found NaN there where most pixels count, and on the plain path everywhere."""
    logits, label, _ = case()
    with torch.no_grad():
        logits[:, 2, 0, :3] = value
    share = torch.zeros(2, 5, 6).flatten().index_fill(0, torch.arange(60)[-counted:], 1).view(2, 5, 6)
    (grad,) = torch.autograd.grad((pixel_cross_entropy(logits, label, 255) * share).sum(), logits)
    assert grad.isfinite().all()
    assert torch.count_nonzero(grad[:, :, 0, :3]) == 0
