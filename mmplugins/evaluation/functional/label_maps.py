"""Areas of the classes in two label maps, counted in integers."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmplugins.functional.device import at_once

# Pixels counted at once: on a CPU, whose cache then holds what is made of them, and elsewhere.
BLOCKS = 2**18, 2**24


class ClassAreas(NamedTuple):
    """Pixels by class, each int64 (C,), on the device of the maps.

    Attributes:
        intersection: Where both maps have the class.
        predicted: Where the prediction has it.
        labelled: Where the truth has it.
    """

    intersection: Tensor
    predicted: Tensor
    labelled: Tensor


def class_areas(prediction: Tensor, label: Tensor, num_classes: int, ignore_index: int = 255) -> ClassAreas:
    """Counts the pixels of each class where the truth is not ``ignore_index``.

    Values that are no class count for none; where only one map has such a value, the other's class counts.

    Args:
        prediction: Classes, any integer dtype and shape.
        label: The truth, of the same shape.
        num_classes: C; classes are 0 to C - 1.
        ignore_index: Label of pixels that do not count; it may be that of a class.

    Returns:
        The areas.

    Raises:
        ValueError: The maps have different shapes.
    """
    if prediction.shape != label.shape:
        raise ValueError(
            f'prediction and truth must have one shape, got {tuple(prediction.shape)} and {tuple(label.shape)}'
        )
    # A table of pairs: rows are labels, columns predictions. The first and the last of each are values that are no
    # class; one more row, which is left out, takes what is ignored.
    columns = num_classes + 2
    cells = (columns + 1) * columns
    block = max(at_once(label, *BLOCKS), cells)
    table = torch.zeros(cells, dtype=torch.int64, device=label.device)
    for predicted, labelled in zip(prediction.flatten().split(block), label.flatten().split(block), strict=True):
        labelled = labelled.long()
        row = torch.where(labelled == ignore_index, num_classes + 1, labelled.clamp(-1, num_classes)) + 1
        table += torch.bincount(row * columns + (predicted.long().clamp(-1, num_classes) + 1), minlength=cells)
    table = table.view(columns + 1, columns)[:-1]
    return ClassAreas(*(areas[1:-1] for areas in (table.diagonal(), table.sum(0), table.sum(1))))
