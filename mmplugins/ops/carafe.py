"""Content-aware reassembly of features (CARAFE), with mmcv's arguments.

Paper: Wang et al., CARAFE, ICCV 2019, equation 3: each pixel of the larger map is a weighted sum of the window around
the pixel below it, one set of weights for each group of channels. One offset of the window is worked on at a time.

Letters: N images, C channels, G groups, h w size of the map, S scale, K side of the window.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Upsamples, as mmcv's operator of this name.

    Args:
        features: (N, C, h, w).
        masks: (N, G * K * K, S * h, S * w), weights.
        output: (N, C, S * h, S * w); written.
        kernel_size: K, odd.
        group_size: G.
        scale_factor: S.
    """
    total = torch.zeros_like(_cells(output, group_size, scale_factor))
    weights = _cells(masks, group_size, scale_factor)
    for place, window in _windows(features, kernel_size, group_size):
        total += window * weights[:, :, place, None]
    _cells(output, group_size, scale_factor).copy_(total)


def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Computes the gradients of ``carafe_naive_forward``, as mmcv's operator of this name.

    Args:
        top_grad: (N, C, S * h, S * w).
        features: (N, C, h, w).
        masks: (N, G * K * K, S * h, S * w).
        bottom_grad: (N, C, h, w), zeros; written.
        mask_grad: Of the shape of ``masks``; written.
        kernel_size: K.
        group_size: G.
        scale_factor: S.
    """
    grad, weights = _cells(top_grad, group_size, scale_factor), _cells(masks, group_size, scale_factor)
    by_weight = _cells(mask_grad, group_size, scale_factor)
    height, width = features.shape[2:]
    half = kernel_size // 2
    padded = F.pad(torch.zeros_like(features), (half,) * 4).unflatten(1, (group_size, -1))
    for place, window in _windows(features, kernel_size, group_size):
        by_weight[:, :, place] = (window * grad).sum(2)
        row, column = divmod(place, kernel_size)
        padded[..., row : row + height, column : column + width] += (grad * weights[:, :, place, None]).sum((-3, -1))
    bottom_grad += padded.flatten(1, 2)[..., half : half + height, half : half + width]


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Upsamples, as mmcv's operator of this name; see ``carafe_naive_forward``.

    Args:
        features: (N, C, h, w).
        masks: (N, G * K * K, S * h, S * w).
        rfeatures: Of the shape of ``features``; takes a copy, which ``carafe_backward`` gets.
        routput: Not used.
        rmasks: Not used.
        output: (N, C, S * h, S * w); written.
        kernel_size: K.
        group_size: G.
        scale_factor: S.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Computes the gradients of ``carafe_forward``, as mmcv's operator of this name.

    Args:
        top_grad: (N, C, S * h, S * w).
        rfeatures: What ``carafe_forward`` wrote.
        masks: (N, G * K * K, S * h, S * w).
        rtop_grad: Not used.
        rbottom_grad_hs: Not used.
        rbottom_grad: Not used.
        rmask_grad: Not used.
        bottom_grad: (N, C, h, w), zeros; written.
        mask_grad: Of the shape of ``masks``; written.
        kernel_size: K.
        group_size: G.
        scale_factor: S.
    """
    carafe_naive_backward(top_grad, rfeatures, masks, bottom_grad, mask_grad, kernel_size, group_size, scale_factor)


def _cells(maps: Tensor, groups: int, scale: int) -> Tensor:
    """Views (N, G * X, S * h, S * w) as (N, G, X, h, S, w, S)."""
    return maps.unflatten(3, (-1, scale)).unflatten(2, (-1, scale)).unflatten(1, (groups, -1))


def _windows(features: Tensor, kernel_size: int, groups: int) -> Iterator[tuple[int, Tensor]]:
    """Yields each place of the window and the features there, (N, G, C / G, h, 1, w, 1), zeros outside."""
    height, width = features.shape[2:]
    padded = F.pad(features, (kernel_size // 2,) * 4).unflatten(1, (groups, -1))
    for place in range(kernel_size**2):
        row, column = divmod(place, kernel_size)
        yield place, padded[..., row : row + height, None, column : column + width, None]
