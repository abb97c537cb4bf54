"""The columns of ``draw_results.py``: what is shown of validation images beside one another."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mmplugins.functional.pixels.cross_entropy import pixel_cross_entropy
from mmplugins.functional.pixels.hard_pixels import ohem_pixels
from mmplugins.functional.pixels.regions import edge_weight
from mmplugins.models.losses import OhemCrossEntropyLoss, StructureLoss
from mmplugins.visualization.figures import Column, Legend
from mmplugins.visualization.pictures import (
    KEPT_COLOUR,
    UNLABELLED_COLOUR,
    UNLABELLED_GREY,
    class_colours,
    colourise,
    edges,
    grey,
    heat,
    highlight,
)


class Sample(NamedTuple):
    """A validation image and what the model made of it; H and W are the image's own height and width.

    Attributes:
        image: RGB, uint8, shape (H, W, 3).
        truth: Class indices, int64, shape (H, W).
        prediction: Class indices, int64, shape (H, W).
        logits: Shape (C, H, W); with one channel the foreground's probability, since mmseg takes the sigmoid itself.
    """

    image: np.ndarray
    truth: Tensor
    prediction: Tensor
    logits: Tensor


class Segments(NamedTuple):
    """A validation image and the objects and regions that a model found; H and W are the image's own height and width.

    Attributes:
        image: RGB, uint8, shape (H, W, 3).
        classes: Class of each pixel, int64, shape (H, W); -1 where there is none.
        numbers: Number of each pixel's segment, int64, shape (H, W); -1 where there is none.
    """

    image: np.ndarray
    classes: Tensor
    numbers: Tensor


def class_columns(
    samples: list[Sample], classes: Sequence[str], palette: Sequence[Sequence[int]] | None, ignore_index: int
) -> tuple[list[Column], Legend]:
    """Shows truth and prediction in the classes' colours.

    Args:
        samples: The images.
        classes: Names.
        palette: (R, G, B) of each class, 0 to 255; None for matplotlib's own colours.
        ignore_index: Label that is drawn as unlabelled.

    Returns:
        The columns, and the legend of the classes that occur.
    """
    palette = class_colours(len(classes), palette)
    notes = []
    for sample in samples:
        valid = sample.truth != ignore_index
        right = (sample.prediction == sample.truth)[valid].float().mean()
        notes.append(f'{right:.0%} of the pixels right' if valid.any() else 'no labels')
    columns = [
        Column('truth', [colourise(sample.truth, palette) for sample in samples], [''] * len(samples)),
        Column('prediction', [colourise(sample.prediction, palette) for sample in samples], notes),
    ]
    seen = {
        index for sample in samples for part in (sample.truth, sample.prediction) for index in part.unique().tolist()
    }
    legend = [(name, palette[i]) for i, name in enumerate(classes) if i in seen]
    return columns, legend + ([('unlabelled', UNLABELLED_COLOUR)] if seen - set(range(len(classes))) else [])


def binary_columns(samples: list[Sample], ignore_index: int) -> tuple[list[Column], Legend]:
    """Shows the mask, white for foreground, and the predicted probability, black 0 to white 1, as ``class_columns``."""
    masks, maps, notes, ignored_anywhere = [], [], [], False
    for sample in samples:
        valid, prob = sample.truth != ignore_index, sample.logits[0]
        ignored_anywhere |= not bool(valid.all())
        masks.append(np.where(valid.numpy()[..., None], grey(sample.truth == 1), UNLABELLED_GREY).astype(np.uint8))
        maps.append(grey(prob))
        error = (prob - (sample.truth == 1).float()).abs()[valid].mean()
        notes.append(f'mean absolute error {error:.3f}' if valid.any() else 'no labels')
    columns = [Column('mask', masks, [''] * len(samples)), Column('prediction', maps, notes)]
    return columns, [('unlabelled', UNLABELLED_GREY)] if ignored_anywhere else []


def segment_column(
    samples: list[Segments], classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> tuple[Column, Legend]:
    """Shows segments in their classes' colours over the image, outlined in white, and names the classes."""
    pictures, notes, seen = [], [], set()
    for sample in samples:
        painted = colourise(torch.where(sample.classes < 0, 255, sample.classes), palette)
        picture = np.where(sample.classes.numpy()[..., None] < 0, sample.image, 0.4 * sample.image + 0.6 * painted)
        numbers = sample.numbers.numpy()
        picture[edges(numbers)] = 255
        pictures.append(picture.astype(np.uint8))
        notes.append(f'{len(set(numbers.ravel().tolist()) - {-1})} segments')
        seen |= set(sample.classes.unique().tolist())
    return Column('prediction', pictures, notes), [(name, palette[i]) for i, name in enumerate(classes) if i in seen]


def edge_weight_column(samples: list[Sample], loss: StructureLoss, ignore_index: int) -> Column:
    """Shows how much a structure loss weighs each pixel at the images' own size, from dark (1) to bright."""
    pictures, notes = [], []
    for sample in samples:
        weight = edge_weight((sample.truth == 1)[None].float(), loss.kernel_size, loss.edge_weight)[0]  # (H, W)
        valid = sample.truth != ignore_index
        weight[~valid] = 0
        pictures.append(heat(weight, 1 + loss.edge_weight))
        notes.append(f'up to {weight.max():.1f}, mean {weight[valid].mean():.1f}')
    return Column(f'edge weight (1 to {1 + loss.edge_weight:g})', pictures, notes)


# What OHEM keeps ------------------------------------------------------------------------------------------------------


def hard_pixel_column(
    samples: list[Sample], loss: OhemCrossEntropyLoss, ignore_index: int, batch_pixels: int | None
) -> tuple[Column, Legend]:
    """Colours the pixels that an OHEM loss would train on; see ``kept_pixels`` for the arguments."""
    kept = kept_pixels(samples, loss, ignore_index, batch_pixels)
    notes = [
        f'{mask.sum() / max(1, int((sample.truth != ignore_index).sum())):.0%} of the pixels'
        for mask, sample in zip(kept, samples, strict=True)
    ]
    pictures = [highlight(sample.image, mask) for mask, sample in zip(kept, samples, strict=True)]
    return Column('hard pixels (OHEM)', pictures, notes), [('hard', KEPT_COLOUR)]


def find_loss(model: nn.Module, loss_type: type) -> tuple[nn.Module | None, int]:
    """Finds a loss of the (last) decode head, None if there is none of the type, and the head's ignored label."""
    head = model.decode_head
    if isinstance(head, nn.ModuleList):
        head = head[-1]
    losses = [module for module in head.modules() if isinstance(module, loss_type)]
    return (losses[0] if losses else None), head.ignore_index


def kept_pixels(
    samples: list[Sample], loss: OhemCrossEntropyLoss, ignore_index: int, batch_pixels: int | None
) -> list[np.ndarray]:
    """Selects pixels with the settings of an OHEM loss.

    Images of one size are one batch, as in training; else each image is its own. A ``min_kept`` that is a count belongs
    to a training batch and is scaled to the pixels that are there.

    Args:
        samples: The images.
        loss: The loss.
        ignore_index: Label that takes no part.
        batch_pixels: Number of pixels of a training batch; None: ``min_kept`` is taken as it is.

    Returns:
        For each image the kept pixels, bool, shape (H, W).
    """
    alike = len({sample.truth.shape for sample in samples}) == 1
    kept = []
    for batch in [samples] if alike else [[sample] for sample in samples]:
        logits = torch.stack([sample.logits for sample in batch])  # (N, C, H, W)
        label = torch.stack([sample.truth for sample in batch])  # (N, H, W)
        min_kept = loss.min_kept
        if isinstance(min_kept, int) and batch_pixels is not None:
            min_kept = round(min_kept * label.numel() / batch_pixels)
        hard = ohem_pixels(
            logits,
            label,
            pixel_cross_entropy(logits, label, ignore_index),
            loss.thresh,
            min_kept,
            loss.threshold_stride,
            ignore_index,
        )
        kept.extend(hard.kept.numpy())
    return kept
