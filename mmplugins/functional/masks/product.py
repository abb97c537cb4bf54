"""Mask logits as products of mask embeddings and pixel features, with a gradient for the rows that have one.

Paper: Mask2Former (CVPR 2022). Released code: mask2former_transformer_decoder.py, an einsum in
``forward_prediction_heads``.

A loss on matched queries has a gradient for a fifth of the logits or less; the rest is 0. The einsum's backward pass
needs all of it, and multiplies the zeros too. Deliberate difference: this one also takes a sparse gradient, of the
matched rows, and works on them alone. Autograd adds gradients of both kinds.

Letters: B images, Q queries, C channels, h w size of the logits, M rows.
"""

import torch
from torch import Tensor

from mmplugins.functional.compat import autocast_dtype
from mmplugins.functional.device import zeros_buffer


def mask_product(embed: Tensor, features: Tensor) -> Tensor:
    """Multiplies the embedding of every query with the features of every pixel.

    Values are those of ``torch.einsum('bqc,bchw->bqhw', ...)``, under autocast too. Derivatives of any order are
    supported, but in forward mode.

    Args:
        embed: Mask embeddings, floating, shape (B, Q, C).
        features: Same dtype (any under autocast), shape (B, C, h, w).

    Returns:
        Logits, (B, Q, h, w).
    """
    if not (torch.is_grad_enabled() and (embed.requires_grad or features.requires_grad)):
        return _product(embed, features)
    lower = autocast_dtype(embed.device.type)
    if lower is not None:
        # Here, not by autocast inside: what the backward pass needs is then kept in that dtype.
        embed, features = (x if x.dtype == torch.float64 else x.to(lower) for x in (embed, features))
    return _MaskProduct.apply(embed, features)


def takes_rows(logits: Tensor) -> bool:
    """Whether a gradient of logits may be sparse, with the axes before h, w sparse.

    That is so if they are what ``mask_product`` returned, and nobody looks at their gradient: they do not retain it and
    have no hook so far.
    """
    return getattr(logits.grad_fn, 'takes_rows', False) and not (logits.retains_grad or logits._backward_hooks)


def _product(embed: Tensor, features: Tensor) -> Tensor:
    return torch.einsum('bqc,bchw->bqhw', embed, features)


class _MaskProduct(torch.autograd.Function):
    """The product, with a backward pass for dense and for sparse gradients."""

    @staticmethod
    def forward(ctx, embed: Tensor, features: Tensor) -> Tensor:
        ctx.save_for_backward(embed, features)
        ctx.takes_rows = True
        return _product(embed, features)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        embed, features = ctx.saved_tensors
        if grad.is_sparse and torch.is_grad_enabled():  # for a second derivative
            grad = grad.to_dense()
        elif grad.is_sparse:
            index, values = grad._indices(), grad._values()  # rows may occur twice: what follows is linear in them
            if grad.device.type == 'cpu':
                return _rows_backward(embed, features, *index, values.flatten(1))
            grad = values.new_zeros(embed.shape[:2].numel(), *values.shape[1:])  # image by image would wait
            grad = grad.index_add_(0, index[0] * embed.shape[1] + index[1], values).unflatten(0, embed.shape[:2])
        by_embed, by_features = ctx.needs_input_grad
        return (
            torch.einsum('bqhw,bchw->bqc', grad, features) if by_embed else None,
            torch.einsum('bqc,bqhw->bchw', embed, grad) if by_features else None,
        )


def _rows_backward(
    embed: Tensor, features: Tensor, image: Tensor, query: Tensor, values: Tensor
) -> tuple[Tensor, Tensor]:
    """Gives both gradients.

    Args:
        embed: (B, Q, C).
        features: (B, C, h, w).
        image: Image of each row, int64 (M,).
        query: Query of each row, int64 (M,).
        values: Gradient of each row, (M, h * w).
    """
    by_embed = torch.zeros_like(embed)
    by_features = zeros_buffer(features.shape, features.dtype, features.device)
    for number in image.unique().tolist():
        rows = (image == number).nonzero().squeeze(1)
        part, queries = values[rows], query[rows]
        by_embed[number].index_add_(0, queries, part @ features[number].flatten(1).T)
        torch.mm(embed[number, queries].T, part, out=by_features[number].flatten(1))
    return by_embed, by_features
