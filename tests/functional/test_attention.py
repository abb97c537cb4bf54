import pytest
import torch
import torch.nn.functional as F

from mmplugins.functional.attention import local_attention
from mmplugins.testing import assert_relative
from tests.precisions import FLOAT16


def example(batch=2, heads=2, height=5, width=7, channels=4, window=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    maps = [draw(batch, heads, height, width, channels) for _ in range(3)]
    return *maps, draw(heads, window**2, channels), draw(heads, window**2), draw(heads, channels, window**2)


def reference(query, key, value, relative_key, relative_bias, relative_value):
    """The formula, one position after the other."""
    height, width, channels = query.shape[2:]
    window = round(relative_key.shape[1] ** 0.5)
    radius = window // 2
    out = torch.zeros_like(query)
    for y in range(height):
        for x in range(width):
            offsets = [
                (a * window + b, y + a - radius, x + b - radius)
                for a in range(window)
                for b in range(window)
                if 0 <= y + a - radius < height and 0 <= x + b - radius < width
            ]
            o, ys, xs = (torch.tensor(column) for column in zip(*offsets, strict=True))
            q = query[:, :, y, x]  # (N, heads, D)
            logits = torch.einsum('nhd,nhod->nho', q, key[:, :, ys, xs]) * channels**-0.5
            logits = logits + torch.einsum('nhd,hod->nho', q, relative_key[:, o]) + relative_bias[:, o]
            values = value[:, :, ys, xs] + relative_value[:, :, o].mT
            out[:, :, y, x] = torch.einsum('nho,nhod->nhd', logits.softmax(-1), values)
    return out


def test_smoke():
    inputs = example(dtype=torch.float32)
    out = local_attention(*inputs)
    assert out.shape == (2, 2, 5, 7, 4)
    out.sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in inputs)


def test_wrong_shapes():
    query, key, value, r, b, s = example()
    with pytest.raises(ValueError, match=r'one shape \(N, heads, H, W, D\), got \(2, 2, 5, 7, 4\), \(2, 2, 5, 6, 4\)'):
        local_attention(query, key[:, :, :, :6], value, r, b, s)
    with pytest.raises(ValueError, match=r'with 2 heads of 4 channels and an odd window, .*got \(2, 8, 4\)'):
        local_attention(query, key, value, r[:, :8], b, s)
    with pytest.raises(ValueError, match='an odd window'):
        local_attention(query, key, value, *(x.repeat(1, 4, 1)[:, :4] for x in (r, b[..., None])), s[..., :4])


@pytest.mark.parametrize(
    'settings',
    [
        dict(),
        dict(batch=1, heads=3, height=17, width=9, window=5),
        dict(height=3, width=3, window=7, channels=2),
        dict(height=1, width=1, window=1),
        dict(height=1, width=20, window=15),
    ],
)
@pytest.mark.parametrize('tile', [1, 3, 8])
def test_values_and_gradients(settings, tile):
    inputs = example(**settings)
    out, expected = local_attention(*inputs, tile), reference(*inputs)
    torch.testing.assert_close(out, expected)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    grads = torch.autograd.grad((out * weight).sum(), inputs)
    for grad, other in zip(grads, torch.autograd.grad((expected * weight).sum(), inputs), strict=True):
        torch.testing.assert_close(grad, other)


def test_by_hand():
    """One row of two positions, window 3: the left one sees itself at offset 4 and the right one at offset 5.

    All queries are 0, so the biases log 1 and log 3 give attention 1/4 and 3/4; out = 1/4 * 8 + 3/4 * (4 + 1).
    """
    zero = torch.zeros(1, 1, 1, 2, 1)
    value = torch.tensor([8.0, 4.0]).view(1, 1, 1, 2, 1)
    bias, relative_value = torch.zeros(1, 9), torch.zeros(1, 1, 9)
    bias[0, 5], relative_value[0, 0, 5] = torch.tensor(3.0).log(), 1
    out = local_attention(zero, zero, value, torch.zeros(1, 9, 1), bias, relative_value)
    torch.testing.assert_close(out[0, 0, 0, 0, 0], torch.tensor(5.75))


def test_a_window_over_everything_is_attention():
    query, key, value, r, b, s = example(height=4, width=5, window=9)
    out = local_attention(query, key, value, torch.zeros_like(r), torch.zeros_like(b), torch.zeros_like(s))
    flat = [x.flatten(2, 3) for x in (query, key, value)]
    torch.testing.assert_close(out.flatten(2, 3), F.scaled_dot_product_attention(*flat))


def test_the_batch_is_not_mixed():
    query, key, value, *relative = example(batch=3)
    out = local_attention(query, key, value, *relative)
    one = local_attention(query[1:2], key[1:2], value[1:2], *relative)
    torch.testing.assert_close(out[1:2], one)


def test_gradcheck():
    assert torch.autograd.gradcheck(lambda *x: local_attention(*x, 2), example(1, 2, 3, 4, 2))


@pytest.mark.parametrize('dtype', [torch.bfloat16, FLOAT16])
def test_half_precision(dtype):
    inputs = example(height=9, width=11, window=5, dtype=torch.float32)
    expected = local_attention(*inputs)
    half = [x.detach().to(dtype).requires_grad_() for x in inputs]
    out = local_attention(*half)
    assert out.dtype == dtype
    out.float().sum().backward()
    assert_relative(out.float(), expected.detach(), 5e-2, 'output')
    assert all(x.grad.dtype == dtype and torch.isfinite(x.grad).all() for x in half)


def test_large_logits_stay_finite():
    query, *rest = example(dtype=torch.float32)
    query = (1e4 * query).detach().requires_grad_()
    out = local_attention(query, *rest)
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(query.grad).all()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda():
    inputs = example(height=31, width=20, window=15)
    out = local_attention(*(x.cuda() for x in inputs))
    torch.testing.assert_close(out.cpu(), local_attention(*inputs))
