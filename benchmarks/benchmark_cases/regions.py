"""Region losses: soft Jaccard.

The released formula is written from its description (AOT, networks/layers/loss.py).
"""

import torch
from torch import Tensor

from mmplugins.models.losses import SoftJaccardLoss

from ._case import Run, case
from ._scenes import street_scene

IGNORE = 255


@case(
    'soft_jaccard',
    'one minus the soft intersection over union of the classes present',
    small={'shape': (2, 19, 129, 129)},
    typical={'shape': (2, 19, 769, 769)},
    large={'shape': (8, 19, 769, 769)},
)
def soft_jaccard(device: torch.device, shape: tuple) -> dict:
    """Makes the inputs."""
    logits, label = street_scene(shape, device)
    return {'logits': logits, 'label': label}


@soft_jaccard.contender('ours')
def soft_jaccard_ours(logits: Tensor, label: Tensor) -> Run:
    """Builds ours."""
    loss = SoftJaccardLoss()
    return lambda: loss(logits, label)


# mmseg's DiceLoss is another function (no intersection over union, absent classes count), hence no toolbox here.
@soft_jaccard.contender('released')
def soft_jaccard_released(logits: Tensor, label: Tensor) -> Run:
    """Builds the released formula."""
    return lambda: released_soft_jaccard(logits, label)


def released_soft_jaccard(logits: Tensor, label: Tensor) -> Tensor:
    """Soft Jaccard loss as released: a loop over the images and their classes.

    Args:
        logits: Shape (N, C, H, W).
        label: int64, shape (N, H, W).

    Returns:
        Mean over images, a scalar.
    """
    losses = []
    for image, target in zip(logits.softmax(1), label, strict=True):
        valid = target != IGNORE
        prob, target = image[:, valid], target[valid]  # (C, P) and (P,), P valid pixels
        terms = []
        for index in range(len(prob)):
            truth = (target == index).float()
            if truth.sum() == 0:
                continue
            intersection = (prob[index] * truth).sum()
            terms.append(1 - intersection / (prob[index].sum() + truth.sum() - intersection))
        losses.append(torch.stack(terms).mean())
    return torch.stack(losses).mean()
