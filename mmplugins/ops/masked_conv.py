"""The two steps of mmcv's convolution at the pixels of a mask (guided anchoring): windows to columns, and back.

Letters: C channels, H W size of the map, K pixels of the kernel, n pixels of the mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Takes the window around each pixel, zeros outside the map.

    Args:
        im: (1, C, H, W).
        mask_h_idx: (n,), int64, rows of the output.
        mask_w_idx: (n,), int64, columns.
        col: (C * K, n); written.
        kernel_h: Height of the window.
        kernel_w: Width of the window.
        pad_h: Rows of zeros around the map.
        pad_w: Columns of zeros.
    """
    padded = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h))
    y = mask_h_idx + torch.arange(kernel_h, device=im.device)[:, None, None]
    x = mask_w_idx + torch.arange(kernel_w, device=im.device)[:, None]
    col.copy_(padded[:, y, x].flatten(0, 2))


def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, height: int, width: int, channels: int
) -> None:
    """Puts a column for each pixel into a map.

    Args:
        col: (C, n).
        mask_h_idx: (n,), int64, rows.
        mask_w_idx: (n,), int64, columns.
        im: (1, C, H, W); written at these pixels.
        height: H.
        width: W.
        channels: C.
    """
    im[0, :, mask_h_idx, mask_w_idx] = col.to(im.dtype)
