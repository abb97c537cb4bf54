"""Losses from a head's own logits beside mmseg's: upsampling to the label's size, then the loss.

The logits are those of a street scene; the labels follow a network that is mostly right. On CUDA 'blocks' are ours
without Triton kernels.
"""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.device import without_triton
from mmplugins.functional.pixels.cross_entropy import summed_cross_entropy
from mmplugins.functional.upsampled import UpsampledLogits, count_correct
from mmplugins.models.losses import OhemCrossEntropyLoss, SoftJaccardLoss, StructureLoss, TopKCrossEntropyLoss

from ._case import TRITON, Run, case
from ._scenes import street_scene

IGNORE = 255
THRESH = 0.7


def head_scene(device: torch.device, shape: tuple, size: tuple, align_corners: bool) -> dict:
    """Makes logits (N, C, h, w) and labels (N, H, W): those of a scene of the head's size, enlarged."""
    logits, label = street_scene(shape, device)
    label = F.interpolate(label[:, None].float(), size)[:, 0].long()
    return {'logits': logits, 'label': label, 'align_corners': align_corners}


def by_blocks(run: Run) -> Run:
    """Runs something without Triton kernels; its backward pass goes without them too."""

    def blocks() -> Any:
        with without_triton():
            return run()

    return blocks


def resized(logits: Tensor, label: Tensor, align_corners: bool) -> Tensor:
    """Upsamples logits as mmseg's heads do."""
    from mmseg.models.utils import resize

    return resize(logits, label.shape[1:], mode='bilinear', align_corners=align_corners)


CITYSCAPES = {'size': (769, 769), 'align_corners': True}


@case(
    'upsampled_cross_entropy',
    "cross entropy from the head's own logits, 19 classes",
    small={'shape': (1, 19, 33, 33), 'size': (257, 257), 'align_corners': True},
    typical={'shape': (2, 19, 97, 97), **CITYSCAPES},
    large={'shape': (8, 19, 97, 97), **CITYSCAPES},
    tolerance=1e-5,
)
def upsampled_cross_entropy(device: torch.device, shape: tuple, size: tuple, align_corners: bool) -> dict:
    """Makes the inputs."""
    return head_scene(device, shape, size, align_corners)


@case(
    'upsampled_cross_entropy_classes',
    "cross entropy from the head's own logits, 150 and 171 classes",
    small={'shape': (1, 150, 32, 32), 'size': (256, 256), 'align_corners': False},
    typical={'shape': (2, 150, 64, 64), 'size': (512, 512), 'align_corners': False},
    large={'shape': (4, 171, 64, 64), 'size': (512, 512), 'align_corners': False},
    tolerance=1e-5,
)
def upsampled_cross_entropy_classes(device: torch.device, shape: tuple, size: tuple, align_corners: bool) -> dict:
    """Makes the inputs."""
    return head_scene(device, shape, size, align_corners)


for _case in (upsampled_cross_entropy, upsampled_cross_entropy_classes):

    @_case.contender('ours')
    def cross_entropy_ours(logits: Tensor, label: Tensor, align_corners: bool) -> Run:
        """Builds ours."""

        def run() -> Tensor:
            upsampled = UpsampledLogits(logits, label.shape[1:], align_corners)
            return summed_cross_entropy(upsampled, label, IGNORE) / torch.count_nonzero(label != IGNORE)

        return run

    @_case.contender('blocks', host=TRITON)
    def cross_entropy_blocks(logits: Tensor, label: Tensor, align_corners: bool) -> Run:
        """Builds ours without Triton kernels."""
        return by_blocks(cross_entropy_ours(logits, label, align_corners))

    @_case.contender('mmseg', host='mmseg')
    def cross_entropy_mmseg(logits: Tensor, label: Tensor, align_corners: bool) -> Run:
        """Builds mmseg's loss, called as its decode heads call it."""
        from mmseg.models.losses import CrossEntropyLoss

        loss = CrossEntropyLoss(avg_non_ignore=True)
        return lambda: loss(resized(logits, label, align_corners), label, ignore_index=IGNORE)


@case(
    'upsampled_head',
    "what a decode head returns: cross entropy from the head's own logits, and the accuracy",
    small={'shape': (1, 19, 33, 33), 'size': (257, 257), 'align_corners': True},
    typical={'shape': (2, 19, 97, 97), **CITYSCAPES},
    large={'shape': (8, 19, 97, 97), **CITYSCAPES},
    tolerance=1e-5,
)
def upsampled_head(device: torch.device, shape: tuple, size: tuple, align_corners: bool) -> dict:
    """Makes the inputs."""
    return head_scene(device, shape, size, align_corners)


@upsampled_head.contender('ours')
def head_ours(logits: Tensor, label: Tensor, align_corners: bool) -> Run:
    """Builds ours."""

    def run() -> tuple[Tensor, Tensor]:
        upsampled, valid = UpsampledLogits(logits, label.shape[1:], align_corners), torch.count_nonzero(label != IGNORE)
        return (
            summed_cross_entropy(upsampled, label, IGNORE) / valid,
            100 * count_correct(upsampled, label, IGNORE).reshape(1) / valid,
        )

    return run


@upsampled_head.contender('blocks', host=TRITON)
def head_blocks(logits: Tensor, label: Tensor, align_corners: bool) -> Run:
    """Builds ours without Triton kernels."""
    return by_blocks(head_ours(logits, label, align_corners))


@upsampled_head.contender('mmseg', host='mmseg')
def head_mmseg(logits: Tensor, label: Tensor, align_corners: bool) -> Run:
    """Builds mmseg's loss and accuracy, called as its decode heads call them."""
    from mmseg.models.losses import CrossEntropyLoss, accuracy

    loss = CrossEntropyLoss(avg_non_ignore=True)

    def run() -> tuple[Tensor, Tensor]:
        full = resized(logits, label, align_corners)
        return loss(full, label, ignore_index=IGNORE), accuracy(full, label, ignore_index=IGNORE)

    return run


@case(
    'upsampled_ohem',
    "cross entropy over hard pixels from the head's own logits",
    small={'shape': (1, 19, 33, 33), 'size': (257, 257), 'align_corners': True, 'min_kept': 10_000},
    typical={'shape': (2, 19, 97, 97), **CITYSCAPES, 'min_kept': 200_000},
    large={'shape': (8, 19, 97, 97), **CITYSCAPES, 'min_kept': 800_000},
    tolerance=5e-3,  # as in hard_pixels.py
)
def upsampled_ohem(device: torch.device, shape: tuple, size: tuple, align_corners: bool, min_kept: int) -> dict:
    """Makes the inputs."""
    return {**head_scene(device, shape, size, align_corners), 'min_kept': min_kept}


@upsampled_ohem.contender('ours')
def ohem_ours(logits: Tensor, label: Tensor, align_corners: bool, min_kept: int) -> Run:
    """Builds ours."""
    loss = OhemCrossEntropyLoss(thresh=THRESH, min_kept=min_kept)
    return lambda: loss(UpsampledLogits(logits, label.shape[1:], align_corners), label)


@upsampled_ohem.contender('blocks', host=TRITON)
def ohem_blocks(logits: Tensor, label: Tensor, align_corners: bool, min_kept: int) -> Run:
    """Builds ours without Triton kernels."""
    return by_blocks(ohem_ours(logits, label, align_corners, min_kept))


@upsampled_ohem.contender('mmseg', host='mmseg', up_to_factor='divides by all valid pixels instead of the kept ones')
def ohem_mmseg(logits: Tensor, label: Tensor, align_corners: bool, min_kept: int) -> Run:
    """Builds mmseg's sampler and loss, called as its decode heads call them."""
    from mmseg.models.losses import CrossEntropyLoss
    from mmseg.structures import OHEMPixelSampler

    sampler = OHEMPixelSampler(SimpleNamespace(ignore_index=IGNORE), THRESH, min_kept // len(logits))
    loss = CrossEntropyLoss(avg_non_ignore=True)

    def run() -> Tensor:
        full = resized(logits, label, align_corners)
        return loss(full, label, weight=sampler.sample(full, label[:, None]), ignore_index=IGNORE)

    return run


@upsampled_ohem.contender('ours, full size')
def ohem_full(logits: Tensor, label: Tensor, align_corners: bool, min_kept: int) -> Run:
    """Builds our loss on upsampled logits."""
    loss = OhemCrossEntropyLoss(thresh=THRESH, min_kept=min_kept)
    return lambda: loss(UpsampledLogits(logits, label.shape[1:], align_corners).full(), label)


@case(
    'upsampled_topk_jaccard',
    "hardest 15 % of the pixels and soft Jaccard from the head's own logits",
    small={'shape': (1, 19, 33, 33), 'size': (257, 257), 'align_corners': True},
    typical={'shape': (2, 19, 97, 97), **CITYSCAPES},
    large={'shape': (8, 19, 97, 97), **CITYSCAPES},
    tolerance=1e-5,
)
def upsampled_topk_jaccard(device: torch.device, shape: tuple, size: tuple, align_corners: bool) -> dict:
    """Makes the inputs."""
    return head_scene(device, shape, size, align_corners)


@upsampled_topk_jaccard.contender('ours')
def topk_jaccard_ours(logits: Tensor, label: Tensor, align_corners: bool) -> Run:
    """Builds ours, past the end of the annealing."""
    topk, jaccard = TopKCrossEntropyLoss(hard_example_mining_step=0), SoftJaccardLoss()

    def run() -> tuple[Tensor, Tensor]:
        upsampled = UpsampledLogits(logits, label.shape[1:], align_corners)
        return topk(upsampled, label), jaccard(upsampled, label)

    return run


@upsampled_topk_jaccard.contender('ours, full size')
def topk_jaccard_full(logits: Tensor, label: Tensor, align_corners: bool) -> Run:
    """Builds our losses on upsampled logits."""
    topk, jaccard = TopKCrossEntropyLoss(hard_example_mining_step=0), SoftJaccardLoss()

    def run() -> tuple[Tensor, Tensor]:
        full = UpsampledLogits(logits, label.shape[1:], align_corners).full()
        return topk(full, label), jaccard(full, label)

    return run


@case(
    'upsampled_structure',
    "structure loss from the head's own logits",
    small={'shape': (4, 1, 32, 32), 'size': (128, 128)},
    typical={'shape': (16, 1, 104, 104), 'size': (416, 416)},
    large={'shape': (32, 1, 128, 128), 'size': (512, 512)},
    tolerance=1e-5,
)
def upsampled_structure(device: torch.device, shape: tuple, size: tuple) -> dict:
    """Makes the inputs."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator)
    mask = F.interpolate(torch.randn(shape[0], 1, 6, 6, generator=generator), size, mode='bilinear')[:, 0] > 0.5
    return {'logits': logits.to(device).requires_grad_(), 'mask': mask.to(device)}


@upsampled_structure.contender('ours')
def structure_ours(logits: Tensor, mask: Tensor) -> Run:
    """Builds ours."""
    loss = StructureLoss()
    return lambda: loss(UpsampledLogits(logits, mask.shape[1:]), mask)


@upsampled_structure.contender('ours, full size')
def structure_full(logits: Tensor, mask: Tensor) -> Run:
    """Builds our loss on upsampled logits."""
    loss = StructureLoss()
    return lambda: loss(UpsampledLogits(logits, mask.shape[1:]).full(), mask)
