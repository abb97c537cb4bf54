"""A second derivative of what has a hand-written gradient raises, and is never silently 0."""

import pytest
import torch
from torch.autograd.function import once_differentiable

from mmplugins.functional.attention import local_attention
from mmplugins.functional.gradients import first_order
from mmplugins.functional.pixels.cross_entropy import pixel_cross_entropy
from mmplugins.functional.pixels.regions import bce_iou_loss, soft_iou_loss, structure_loss
from mmplugins.functional.pixels.soft_jaccard import soft_jaccard_loss


def attention(x):
    """Windowed attention of a map to itself, x (1, 1, 3, 4, 2), with relative terms of a 3x3 window."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((1, 9, 2), (1, 9), (1, 2, 9))
    return local_attention(x, x, x, *(torch.randn(shape, generator=generator, dtype=x.dtype) for shape in shapes))


LABEL = torch.tensor([[[0, 1, 2], [2, 255, 1]]])
MASK = torch.tensor([[[True, False, True], [False, False, True]]])
CASES = {
    'pixel_cross_entropy': (lambda x: pixel_cross_entropy(x, LABEL, 255), (1, 3, 2, 3)),
    'soft_jaccard_loss': (lambda x: soft_jaccard_loss(x, LABEL, 255), (1, 3, 2, 3)),
    'soft_iou_loss': (lambda x: soft_iou_loss(x, MASK), (1, 2, 3)),
    'bce_iou_loss': (lambda x: bce_iou_loss(x, MASK), (1, 2, 3)),
    'structure_loss': (lambda x: structure_loss(x, MASK), (1, 2, 3)),
    'local_attention': (attention, (1, 1, 3, 4, 2)),
}


def example(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x.requires_grad_()


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('reduce', [torch.sum, lambda x: x.square().sum()], ids=['constant', 'not constant'])
def test_a_second_derivative_raises(name, reduce):
    function, shape = CASES[name]
    x = example(shape)
    loss = reduce(function(x))
    (grad,) = torch.autograd.grad(loss, x, create_graph=True)
    penalty = loss + grad.square().sum()  # the loss alone has a graph, so that nothing but our error can raise
    with pytest.raises(
        RuntimeError, match=rf'{name}.* has a first derivative and no second one; for a gradient of its'
    ):
        penalty.backward()


@pytest.mark.parametrize('name', CASES)
def test_a_graph_changes_no_first_derivative(name):
    function, shape = CASES[name]
    x = example(shape)
    (expected,) = torch.autograd.grad(function(x).sum(), x)
    (grad,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    assert torch.equal(grad, expected)
    assert not expected.requires_grad
    assert expected.count_nonzero() > 0


def cube(mark):
    """x^3 as a function whose backward pass is marked."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        @mark
        def backward(ctx, grad):
            return (3 * ctx.saved_tensors[0] ** 2 * grad,)

    return Cube.apply


def test_torchs_own_mark_lets_it_vanish():
    """Which is why there is one of ours: the gradient 12 at 2 has itself a gradient, 12."""
    x = torch.tensor(2.0, requires_grad=True)
    (vanished,) = torch.autograd.grad(cube(once_differentiable)(x), x, create_graph=True)
    assert not vanished.requires_grad
    (grad,) = torch.autograd.grad(cube(first_order('cube'))(x), x, create_graph=True)
    assert grad == vanished == 12
    with pytest.raises(RuntimeError, match='cube has a first derivative'):
        grad.backward()
