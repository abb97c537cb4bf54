import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from mmplugins.functional.masks import product as product_module
from mmplugins.functional.masks.product import mask_product
from mmplugins.functional.masks.sampled_logits import sample_logits
from mmplugins.testing import assert_relative
from tests.precisions import FLOAT16

ROWS = (torch.tensor([0, 0, 2, 2]), torch.tensor([1, 3, 0, 3]))  # image and query; none of image 1


def scene(dtype=torch.float32, device='cpu', batch=3, queries=4, channels=6, size=(5, 7)):
    generator = torch.Generator().manual_seed(0)
    embed = torch.randn(batch, queries, channels, generator=generator, dtype=torch.float64)
    features = torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64)
    return [x.to(device, dtype).requires_grad_() for x in (embed, features)]


def plain(embed, features):
    return torch.einsum('bqc,bchw->bqhw', embed, features)


def at_points(logits, number=20, rows=ROWS):
    """A loss on some rows of the logits, at points."""
    points = torch.rand(len(rows[0]), number, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = [row.to(logits.device) for row in rows]
    return sample_logits(logits, points.to(logits.device).to(torch.promote_types(logits.dtype, torch.float32)), rows)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16, FLOAT16])
def test_values_are_the_einsums(dtype):
    embed, features = scene(dtype, size=(40, 33), channels=32)
    expected = plain(embed, features)
    assert torch.equal(mask_product(embed, features), expected)
    with torch.no_grad():
        assert torch.equal(mask_product(embed, features), expected)
        assert mask_product(embed, features).grad_fn is None


@pytest.fixture
def row_calls(monkeypatch):
    """Calls of the backward pass that works on some rows only."""
    calls, original = [], product_module._rows_backward
    monkeypatch.setattr(product_module, '_rows_backward', lambda *args: calls.append(args[3]) or original(*args))
    return calls


@pytest.mark.parametrize('rows', [ROWS, (torch.tensor([2, 0, 2, 0]),) * 2, (torch.zeros(0, dtype=torch.int64),) * 2])
@pytest.mark.usefixtures('each_path')
def test_known_rows_give_the_gradients_of_the_einsum(rows, row_calls, each_path):
    """Of ordered rows, of others that occur twice, of none."""
    inputs = scene()
    weight = torch.randn(len(rows[0]), 20)
    found = []
    for product in (mask_product, plain):
        value = at_points(product(*inputs), rows=rows)
        found.append(torch.autograd.grad((value * weight).sum(), inputs))
    assert len(row_calls) == (each_path == 'cpu')
    for ours, theirs in zip(*found, strict=True):
        assert (float(theirs.abs().max()) > 0) == (len(rows[0]) > 0)
        assert_relative(ours, theirs, 1e-6)


def test_where_others_contribute_all_rows_count(row_calls):
    inputs = scene()
    found = []
    for product in (mask_product, plain):
        logits = product(*inputs)
        total = at_points(logits).square().sum() + at_points(logits, 9).sum() + logits.sigmoid().sum()
        found.append(torch.autograd.grad(total, inputs))
    assert row_calls == []
    for ours, theirs in zip(*found, strict=True):
        assert_relative(ours, theirs, 1e-6)


def test_gradcheck():
    inputs = scene(torch.float64)
    assert gradcheck(mask_product, inputs)
    assert gradcheck(lambda *inputs: at_points(mask_product(*inputs)), inputs)


def test_second_derivatives():
    """Of the product there are some; the loss on points says that it has none."""
    inputs = scene(torch.float64)
    assert gradgradcheck(mask_product, inputs)
    first = torch.autograd.grad(at_points(mask_product(*inputs)).square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match='sample_logits has a first derivative and no second one'):
        sum(part.sum() for part in first).backward()


@pytest.mark.parametrize('trained', [(True, False), (False, True)])
def test_one_input_without_a_gradient(trained):
    inputs = scene()
    for one, flag in zip(inputs, trained, strict=True):
        one.requires_grad_(flag)
    leaf = inputs[trained.index(True)]
    ours, theirs = (torch.autograd.grad(at_points(kind(*inputs)).sum(), leaf)[0] for kind in (mask_product, plain))
    assert_relative(ours, theirs, 1e-6)


def test_whoever_asks_for_the_gradient_of_the_logits_gets_a_dense_one():
    """By autograd.grad, retain_grad or a hook; the gradients of the inputs stay what they are."""
    embed, features = inputs = scene()
    expected = torch.autograd.grad(at_points(plain(embed, features)).sum(), inputs)
    asked, kept, hooked, seen = *(mask_product(embed, features) for _ in range(3)), []
    (alone,) = torch.autograd.grad(at_points(asked).sum(), asked, retain_graph=True)
    together = torch.autograd.grad(at_points(asked).sum(), [asked, *inputs])
    kept.retain_grad()
    hooked.register_hook(seen.append)
    (at_points(kept) + at_points(hooked)).sum().backward()
    for grad in (alone, together[0], kept.grad, seen[0]):
        assert grad.layout == torch.strided
        assert torch.equal(grad, alone)
        assert grad[1].abs().sum() == 0
        assert grad[0, 1].abs().sum() > 0
    for ours, theirs in zip(together[1:], expected, strict=True):
        assert_relative(ours, theirs, 1e-6)
    assert_relative(embed.grad, 2 * expected[0], 1e-6)


def test_a_hook_that_changes_the_gradient_is_obeyed(row_calls):
    embed, features = inputs = scene()
    logits = mask_product(embed, features)
    logits.register_hook(lambda grad: grad + 1)
    found = torch.autograd.grad(at_points(logits).sum(), inputs)
    twin = plain(embed, features)
    expected = torch.autograd.grad(at_points(twin).sum() + twin.sum(), inputs)
    assert row_calls == []
    for ours, theirs in zip(found, expected, strict=True):
        assert_relative(ours, theirs, 1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, FLOAT16])
@pytest.mark.parametrize('precision', [torch.float32, torch.float64])
def test_autocast(dtype, precision):
    """Values, dtypes and gradients are those of the einsum under autocast; float64 is left alone."""
    inputs = scene(precision, size=(16, 16), channels=32)
    found = []
    for product in (mask_product, plain):
        with torch.autocast('cpu', dtype=dtype):
            logits = product(*inputs)
        assert logits.dtype == (precision if precision == torch.float64 else dtype)
        found.append((logits.detach(), *torch.autograd.grad(at_points(logits).sum(), inputs)))
    assert torch.equal(found[0][0], found[1][0])
    for ours, theirs in zip(found[0][1:], found[1][1:], strict=True):
        assert ours.dtype == precision
        assert_relative(ours, theirs, 1e-6 if precision == torch.float64 else torch.finfo(dtype).eps)


def test_two_dtypes_under_autocast():
    embed, features = scene()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = features.detach().bfloat16().requires_grad_()
        assert torch.equal(mask_product(embed, half), plain(embed, half))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_equals_cpu():
    """Without waiting for the device."""
    found = []
    for device in ('cpu', 'cuda'):
        inputs = scene(device=device)
        value = at_points(mask_product(*inputs)).sum()
        torch.cuda.set_sync_debug_mode('error' if device == 'cuda' else 'default')
        try:
            gradients = torch.autograd.grad(value, inputs)
        finally:
            torch.cuda.set_sync_debug_mode('default')
        found.append([gradient.cpu() for gradient in gradients])
    for ours, theirs in zip(*found, strict=True):
        assert_relative(ours, theirs, 1e-4)
