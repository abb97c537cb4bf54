"""Gradients that are written by hand, and have none of their own."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from mmplugins.functional.compat import is_compiling

Backward = Callable[..., tuple[Tensor | None, ...]]


def first_order(name: str) -> Callable[[Backward], Backward]:
    """Marks the backward pass of an ``autograd.Function``, a tuple for several inputs, as having no gradient.

    A gradient of the gradient raises. torch's ``once_differentiable`` raises only where the incoming gradient has one
    itself; behind a sum or a mean, whose gradient is a constant, its second derivative is silently 0.

    Args:
        name: What is differentiated, for the message.

    Returns:
        A decorator; it stands below ``staticmethod``. What it decorates runs without recording a graph.
    """

    def decorate(backward: Backward) -> Backward:
        @wraps(backward)
        def wrapper(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
            if is_compiling() or not torch.is_grad_enabled():  # the compiler refuses it by itself
                return backward(ctx, *grads)
            with torch.no_grad():  # a graph of the gradient is asked for
                results = backward(ctx, *grads)
            return tuple(None if x is None else _NoGradient.apply(x, _anchor(x), name) for x in results)

        return wrapper

    return decorate


def _anchor(x: Tensor) -> Tensor:
    """Something that needs a gradient, so that what is made of it has a place in the graph."""
    return torch.zeros((), device=x.device, requires_grad=True)


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, anchor: Tensor, name: str) -> Tensor:
        ctx.name = name
        return x.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[None, None, None]:
        raise RuntimeError(
            f'{ctx.name} has a first derivative and no second one; for a gradient of its gradient (a gradient penalty, '
            'a Hessian) write the loss with plain PyTorch functions'
        )
