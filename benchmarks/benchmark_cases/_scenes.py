"""Inputs that look like those of a network in training."""

import torch
import torch.nn.functional as F
from torch import Tensor


def street_scene(
    shape: tuple[int, int, int, int], device: torch.device, ignore_index: int = 255
) -> tuple[Tensor, Tensor]:
    """Makes label maps of smooth regions and the logits of a network that is mostly right.

    5 % of the pixels are ignored, in patches. On 10 %, again in patches, another class is favoured; the favoured
    class leads by 6, and every logit has unit noise.

    Args:
        shape: N, C, H, W.
        device: Where the tensors go; the values do not depend on it.
        ignore_index: Label of ignored pixels.

    Returns:
        Logits (N, C, H, W), float32, which require a gradient, and labels (N, H, W), int64.
    """
    num_images, num_classes, height, width = shape
    generator = torch.Generator().manual_seed(0)

    def smooth(channels: int) -> Tensor:
        coarse = torch.randn(1, channels, height // 32 + 2, width // 32 + 2, generator=generator)
        return F.interpolate(coarse, (height, width), mode='bilinear', align_corners=True)[0]  # (channels, H, W)

    def patches(share: float) -> Tensor:
        field = smooth(1)[0]
        return field <= field.flatten().kthvalue(max(1, int(share * field.numel()))).values  # (H, W)

    logits = torch.randn(shape, generator=generator)
    labels = []
    for image in range(num_images):  # one at a time: a field has as many channels as there are classes
        label = smooth(num_classes).argmax(0)  # (H, W)
        favoured = torch.where(patches(0.1), (label + 1) % num_classes, label)
        logits[image].scatter_add_(0, favoured[None], torch.full((1, height, width), 6.0))
        labels.append(label.masked_fill(patches(0.05), ignore_index))
    return logits.to(device).requires_grad_(), torch.stack(labels).to(device)
