"""Mask logits as products of mask embeddings and pixel features, with a gradient for the rows that have one.

Paper: Mask2Former (CVPR 2022). Released code: mask2former_transformer_decoder.py, an einsum in
``forward_prediction_heads``.

A loss on matched queries has a gradient for a fifth of the logits or less; the rest is 0. The einsum's backward pass
multiplies the zeros too. Deliberate difference: whoever made a gradient may tell this one which rows of it are not 0
(``tell_rows``), and on the CPU it then works on them alone. If anything else contributed to the gradient, or changed
it, all of it is used.

Letters: B images, Q queries, C channels, h w size of the logits, M rows.
"""

import torch
from torch import Tensor

from mmplugins.functional.compat import autocast_dtype
from mmplugins.functional.device import cpu_kernels, zeros_buffer


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


def product_of(logits: Tensor) -> object | None:
    """Returns the node of the graph that ``tell_rows`` takes, if ``mask_product`` made the logits, else None."""
    return logits.grad_fn if hasattr(logits.grad_fn, 'known_gradient') else None


def tell_rows(product: object | None, grad: Tensor, rows: Tensor) -> None:
    """Tells the product which rows of a gradient are not 0, right before autograd hands the gradient to it.

    Args:
        product: What ``product_of`` returned.
        grad: Gradient of the logits, (B, Q, h, w).
        rows: Indices into the B * Q rows, int64 (M,); some may occur twice.
    """
    if product is not None:
        product.known_gradient = (grad, grad._version, rows)


def _product(embed: Tensor, features: Tensor) -> Tensor:
    return torch.einsum('bqc,bchw->bqhw', embed, features)


class _MaskProduct(torch.autograd.Function):
    """The product, with a backward pass that may know which rows of the gradient are not 0."""

    @staticmethod
    def forward(ctx, embed: Tensor, features: Tensor) -> Tensor:
        ctx.save_for_backward(embed, features)
        ctx.known_gradient = None
        return _product(embed, features)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        embed, features = ctx.saved_tensors
        known, ctx.known_gradient = ctx.known_gradient, None
        # A gradient that was summed up or changed by a hook is another tensor, or another version of it.
        same = known is not None and known[0] is grad and known[1] == grad._version
        if same and cpu_kernels(grad) and not torch.is_grad_enabled():
            return _rows_backward(embed, features, grad, known[2].unique())
        by_embed, by_features = ctx.needs_input_grad
        return (
            torch.einsum('bqhw,bchw->bqc', grad, features) if by_embed else None,
            torch.einsum('bqc,bqhw->bchw', embed, grad) if by_features else None,
        )


def _rows_backward(embed: Tensor, features: Tensor, grad: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both gradients.

    Args:
        embed: (B, Q, C).
        features: (B, C, h, w).
        grad: (B, Q, h, w).
        rows: Which of the B * Q rows are not 0, int64 (M,), ascending.
    """
    by_embed = torch.zeros_like(embed)
    by_features = zeros_buffer(features.shape, features.dtype, features.device)
    images, queries = rows // embed.shape[1], rows % embed.shape[1]
    for image in images.unique().tolist():
        query = queries[images == image]
        part = grad[image, query].flatten(1)  # (m, h * w)
        by_embed[image, query] = part @ features[image].flatten(1).T
        torch.mm(embed[image, query].T, part, out=by_features[image].flatten(1))
    return by_embed, by_features
