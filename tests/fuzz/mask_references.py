"""The losses and costs of masks, written plainly in float64 from their formulas; nothing of the library is used."""

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = torch.finfo(torch.float32).eps


def ignored_logits(valid: Tensor, size: tuple[int, int]) -> Tensor:
    """Which logits, (h, w), cover no valid pixel of (H, W)."""
    (height, width), found = valid.shape, torch.zeros(size, dtype=torch.bool)
    for i in range(size[0]):
        for j in range(size[1]):
            rows = slice(i * height // size[0], -(-(i + 1) * height // size[0]))
            columns = slice(j * width // size[1], -(-(j + 1) * width // size[1]))
            found[i, j] = not valid[rows, columns].any()
    return found


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of maps (M, H, W) at x,y in 0 to 1, (M, P, 2); outside is 0; (M, P)."""
    if not len(maps):
        return maps.new_zeros(0, points.shape[1]) + maps.sum()
    return F.grid_sample(maps[:, None], 2 * points[:, None] - 1, align_corners=False)[:, 0, 0]


def entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy of each element."""
    return -target * F.logsigmoid(logits) - (1 - target) * F.logsigmoid(-logits)


def focal(logits: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:
    """Sigmoid focal loss of each element."""
    prob = logits.sigmoid()
    miss = prob * (1 - target) + (1 - prob) * target
    return (alpha * target + (1 - alpha) * (1 - target)) * miss**gamma * entropy(logits, target)


def mean_and_dice(elements: Tensor, logits: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the elements that count, and dice loss, of each row of (M, P); both 0 where none counts."""
    prob = logits.sigmoid()
    dice = 1 - (2 * (prob * target * weight).sum(1) + 1) / ((prob * weight).sum(1) + (target * weight).sum(1) + 1)
    return (elements * weight).sum(1) / weight.sum(1).clamp(min=1), dice


def dense(logits: Tensor, masks: Tensor, valid: Tensor | None, alpha: float, gamma: float) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of each mask, (M,), with logits (M, h, w) brought to the masks' size."""
    size = masks.shape[1:]
    weight = torch.ones_like(masks)
    if valid is not None:
        for index in range(len(masks)):
            pixels = valid if valid.dim() == 2 else valid[index]
            dropped = ignored_logits(pixels, logits.shape[1:])
            logits = logits.clone()
            logits[index] = torch.where(dropped, 0.0, logits[index])
            # in float32, as logits are: there a pixel at the very centre of a logit may have a rest of its neighbour
            touched = F.interpolate(dropped[None, None].float(), size, mode='bilinear')[0, 0] > 0
            weight[index] = (pixels & ~touched).double()
    full = F.interpolate(logits[:, None], size, mode='bilinear')[:, 0] if len(logits) else logits.sum() + masks
    full, masks, weight = full.flatten(1), masks.flatten(1), weight.flatten(1)
    return mean_and_dice(focal(full, masks, alpha, gamma), full, masks, weight)


def on_points(logits: Tensor, masks: Tensor, points: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Cross entropy and dice loss of each mask, (M,), at points (M, P, 2)."""
    weight = torch.ones(points.shape[:2], dtype=torch.float64)
    if valid is not None:
        logits = logits.clone()
        for index in range(len(masks)):
            pixels = valid if valid.dim() == 2 else valid[index]
            dropped = ignored_logits(pixels, logits.shape[1:])
            logits[index] = torch.where(dropped, 0.0, logits[index])
            for maps in (~pixels, dropped):
                weight[index] *= sample(maps[None].double(), points[index : index + 1])[0] == 0
    x, target = sample(logits, points), sample(masks, points)
    return mean_and_dice(entropy(x, target), x, target, weight)
