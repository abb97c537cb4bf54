"""The losses on pixels, written plainly in float64 from their formulas; nothing of the library is used.

Each takes what the registered loss takes, with every setting resolved, and returns the value of each element as the
loss does for reduction 'none', with what a mean divides by.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """Cross entropy of each pixel, (N, H, W), 0 where not valid: logsumexp minus the true class's logit."""
    index = torch.where(valid, label, 0)[:, None]
    loss = logits.logsumexp(1) - logits.gather(1, index)[:, 0]
    return torch.where(valid, loss, 0.0)


def ohem(
    logits: Tensor,
    label: Tensor,
    valid: Tensor,
    weight: Tensor,
    class_weight: Tensor | None,
    thresh: float,
    min_kept: int | float,
) -> tuple[Tensor, Tensor, float]:
    """Returns elements, what a mean divides by, and the least distance of a probability from the threshold."""
    loss = cross_entropy(logits, label, valid)
    prob = torch.exp(-loss.detach())
    numbers = sorted(prob[valid].tolist(), key=lambda p: (p != p, p))
    count = math.ceil(min_kept * len(numbers)) if isinstance(min_kept, float) else min_kept
    if len(numbers) <= count:
        threshold = 1.0
    else:
        threshold = max(thresh, numbers[count - 1]) if count else thresh
    kept = valid & ~(prob > threshold)  # so that NaN is kept
    margin = min((abs(p - threshold) for p in numbers if p != threshold), default=1.0) if threshold < 1 else 1.0
    if threshold < 1 and sum(p == threshold for p in numbers) > 1:
        margin = 0.0  # equal here, which float32 may tell apart
    share = kept.double()
    if class_weight is not None:
        share = share * class_weight.double()[torch.where(valid, label, 0)]
    return torch.where(kept, loss * share * weight, 0.0), share.sum(), margin


def top_k(
    logits: Tensor, label: Tensor, valid: Tensor, weight: Tensor, class_weight: Tensor | None, share: float
) -> tuple[Tensor, Tensor]:
    """Returns the losses of the k hardest pixels of each image times their weights, 0 elsewhere; and their number."""
    loss = cross_entropy(logits, label, valid)
    if class_weight is not None:
        loss = loss * torch.where(valid, class_weight.double()[torch.where(valid, label, 0)], 0.0)
    pixels = loss.flatten(1)
    k = min(max(int(share * pixels.shape[1]), 1), pixels.shape[1])
    order = torch.sort(pixels, dim=1, descending=True, stable=True).indices[:, :k]
    kept = torch.zeros_like(pixels).scatter(1, order, 1.0)
    return torch.where(kept > 0, pixels * weight.flatten(1), 0.0).view_as(loss), torch.tensor(float(order.numel()))


def top_k_gap(logits: Tensor, label: Tensor, valid: Tensor, class_weight: Tensor | None, share: float) -> float:
    """Least difference between the last loss that is kept and the first that is not; large if both are 0."""
    loss = cross_entropy(logits, label, valid)
    if class_weight is not None:
        loss = loss * torch.where(valid, class_weight.double()[torch.where(valid, label, 0)], 0.0)
    pixels = loss.flatten(1)
    k = max(int(share * pixels.shape[1]), 1)
    if k >= pixels.shape[1] or not len(pixels):
        return 1.0
    ordered = pixels.nan_to_num(torch.inf).sort(dim=1, descending=True).values
    last, first = ordered[:, k - 1], ordered[:, k]
    return float(torch.where((last == 0) | last.isinf(), 1.0, last - first).min())


def soft_jaccard(logits: Tensor, label: Tensor, valid: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the loss of each image, the mean over its classes that have a valid pixel of weight."""
    prob = logits.softmax(1)
    values = []
    for p, one, share in zip(prob, label, valid * weight, strict=True):
        ratios = []
        for number in range(len(p)):
            true = (one == number) * share
            if true.sum() > 0:
                inter = (p[number] * true).sum()
                ratios.append(1 - inter / ((p[number] * share).sum() + true.sum() - inter))
        values.append(torch.stack(ratios).mean() if ratios else p.sum() * 0)
    return (torch.stack(values) if values else prob.flatten(1).sum(1)), torch.tensor(float(len(label)))


def edge_weight(mask: Tensor, kernel: int, strength: float) -> Tensor:
    """1 + strength * |mean of a window, zeros outside - mask|, of maps (N, H, W)."""
    if not mask.numel():
        return mask + 1
    mean = F.avg_pool2d(mask[:, None], kernel, stride=1, padding=kernel // 2)[:, 0]
    return 1 + strength * (mean - mask).abs()


def region(
    logits: Tensor,
    mask: Tensor,
    count: Tensor,
    entropy: str,
    edges: tuple[int, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Soft IoU loss of each image with some cross entropy: 'none', 'batch', the mean over the pixels, or 'weighted'.

    Args:
        logits: (N, H, W).
        mask: (N, H, W), in [0, 1].
        count: How often each pixel counts, (N, H, W).
        entropy: Which cross entropy is added.
        edges: Kernel size and strength of the edge weight.
    """
    counted = count != 0
    mask = torch.where(counted, mask, 0.0)
    logits = torch.where(counted, logits, 0.0)
    weight = count if edges is None else count * edge_weight(mask, *edges)
    prob = logits.sigmoid()
    inter = (prob * mask * weight).sum((1, 2))
    union = ((prob + mask) * weight).sum((1, 2)) - inter
    loss = 1 - inter / union.clamp(min=1e-300)
    bce = mask * -F.logsigmoid(logits) + (1 - mask) * -F.logsigmoid(-logits)
    some = counted.flatten(1).any(1)
    if entropy == 'batch':
        loss = loss + (bce * count).sum((1, 2)) * some.sum() / count.sum().clamp(min=1e-300)
    elif entropy == 'weighted':
        loss = loss + (bce * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-300)
    return torch.where(some, loss, 0.0), some.sum()


def reduced(elements: Tensor, count: Tensor, reduction: str, avg_factor: float | None) -> Tensor:
    """Reduces as every loss does; a mean over nothing is 0."""
    if reduction == 'none':
        return elements
    if reduction == 'sum':
        return elements.sum()
    if avg_factor is not None:
        return elements.sum() / (avg_factor + torch.finfo(torch.float32).eps)
    return elements.sum() / (count if count else 1)
