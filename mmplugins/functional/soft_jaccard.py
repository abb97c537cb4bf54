"""Soft Jaccard (IoU) loss over the classes present.

Paper: AOT (NeurIPS 2021). Released code: networks/layers/loss.py, ``SoftJaccordLoss``, a Tversky index with
alpha = beta = 1 and no smoothing. Differences: all classes and images at once, no pixel is gathered.
"""

import torch
from torch import Tensor


def soft_jaccard_loss(logits: Tensor, label: Tensor, ignore_index: int, weight: Tensor | None = None) -> Tensor:
    """Computes 1 - I/U of each class present in an image, averaged over those classes.

    With p the softmax, g the one-hot label and sums over the valid pixels of one image,
    I_c = sum(p_c g_c) and U_c = sum(p_c) + sum(g_c) - I_c.

    Args:
        logits: Shape (N, C, H, W).
        label: int64, shape (N, H, W).
        ignore_index: Label of pixels that take no part.
        weight: Factor of each pixel in the sums, shape (N, H, W).

    Returns:
        Loss of each image, shape (N,), in [0, 1]; 0 for an image without a valid pixel.
    """
    num_classes = logits.shape[1]
    valid = label != ignore_index
    index = torch.where(valid, label, 0).flatten(1)  # (N, HW)
    share = (valid if weight is None else valid * weight).flatten(1).to(logits.dtype)  # (N, HW)
    prob = logits.flatten(2).softmax(1)  # (N, C, HW)

    zeros = prob.new_zeros(len(prob), num_classes)
    true_prob = prob.gather(1, index[:, None]).squeeze(1)  # (N, HW)
    intersection = zeros.scatter_add(1, index, true_prob * share)  # (N, C)
    truth = zeros.scatter_add(1, index, share)  # (N, C)
    union = torch.bmm(prob, share[:, :, None]).squeeze(2) + truth - intersection  # (N, C)

    present = truth > 0
    loss = 1 - intersection / torch.where(present, union, 1)
    return (loss * present).sum(1) / present.sum(1).clamp(min=1)
