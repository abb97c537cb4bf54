"""Losses on binary masks: the structure loss and binary cross entropy plus soft IoU, of PFNet.

The released formulas are written from their description: PFNet's loss.py and train.py. They pool with a full 31x31
window; torch's own pooling is what the released code calls.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.models.losses import BCEIoULoss, StructureLoss

from ._case import Run, case

SIZES = {
    'small': {'shape': (4, 1, 128, 128)},
    'typical': {'shape': (16, 1, 416, 416)},
    'large': {'shape': (16, 1, 832, 832)},
}


def objects(device: torch.device, shape: tuple[int, int, int, int]) -> dict:
    """Makes masks of smooth blobs, floating (N, 1, H, W), and logits (N, 1, H, W) that mostly agree with them."""
    num_images, _, height, width = shape
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(num_images, 1, height // 64 + 2, width // 64 + 2, generator=generator)
    field = F.interpolate(coarse, (height, width), mode='bilinear', align_corners=True)
    logits = 4 * field - 2 + torch.randn(shape, generator=generator)
    return {'logits': logits.to(device).requires_grad_(), 'mask': (field > 0.5).float().to(device)}


@case('structure', 'edge-weighted soft IoU with cross entropy, as released', tolerance=1e-5, **SIZES)
def structure(device: torch.device, shape: tuple) -> dict:
    """Makes the inputs."""
    return objects(device, shape)


@structure.contender('ours')
def structure_ours(logits: Tensor, mask: Tensor) -> Run:
    """Builds ours."""
    loss = StructureLoss(variant='released')
    return lambda: loss(logits, mask)


@structure.contender('released')
def structure_released(logits: Tensor, mask: Tensor) -> Run:
    """Builds the released formula."""
    return lambda: released_structure_loss(logits, mask)


@case('bce_iou', 'cross entropy plus soft IoU', tolerance=1e-5, **SIZES)
def bce_iou(device: torch.device, shape: tuple) -> dict:
    """Makes the inputs."""
    return objects(device, shape)


@bce_iou.contender('ours')
def bce_iou_ours(logits: Tensor, mask: Tensor) -> Run:
    """Builds ours."""
    loss = BCEIoULoss()
    return lambda: loss(logits, mask)


@bce_iou.contender('released')
def bce_iou_released(logits: Tensor, mask: Tensor) -> Run:
    """Builds the released formula."""
    return lambda: F.binary_cross_entropy_with_logits(logits, mask) + soft_iou(logits.sigmoid(), mask).mean()


def released_structure_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Structure loss as released, its cross entropy a plain mean: logits and mask (N, 1, H, W), gives a scalar."""
    weight = 1 + 5 * torch.abs(F.avg_pool2d(mask, kernel_size=31, stride=1, padding=15) - mask)
    entropy = F.binary_cross_entropy_with_logits(logits, mask)
    entropy = (weight * entropy).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))  # (N, 1)
    return (entropy + soft_iou(logits.sigmoid(), mask, weight)).mean()


def soft_iou(prob: Tensor, mask: Tensor, weight: Tensor | float = 1) -> Tensor:
    """One minus the soft intersection over union of each image, (N, 1)."""
    inter = ((prob * mask) * weight).sum(dim=(2, 3))
    union = ((prob + mask) * weight).sum(dim=(2, 3))
    return 1 - inter / (union - inter)
