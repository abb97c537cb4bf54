"""Masks of the classes of a label map, for heads that predict a mask for each class.

Difference from mmdet's and mmseg's heads: masks are bool, not int64, and the classes of all images are found in one
copy to the host, not one an image.

Shapes: B images, C classes, H W label size, n classes that an image has.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmplugins.functional.device import cpu_kernels


def present_classes(labels: Sequence[Tensor], num_classes: int, ignore_index: int = 255) -> list[tuple[list[int], int]]:
    """Finds the classes that occur in label maps; waits for the device once.

    Args:
        labels: For each of the B images integer class indices, of any shape.
        num_classes: C.
        ignore_index: Label of pixels without a class.

    Returns:
        For each image its classes, ascending; and how many other labels there are, neither a class nor
        ``ignore_index``: 0, or 1 for any number.

    Raises:
        TypeError: Labels are not integers.
    """
    found = []
    for label in labels:
        if label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
            raise TypeError(f'label maps must be integers (class indices), got {label.dtype}; call .long() on them')
        code = label.flatten().long()
        wrong = (code < 0) | (code >= num_classes)
        code = torch.where(wrong, torch.where(code == ignore_index, num_classes, num_classes + 1), code)
        if 0 <= ignore_index < num_classes:
            code = code.masked_fill_(label.flatten() == ignore_index, num_classes)
        if cpu_kernels(code):
            found.append(torch.bincount(code, minlength=num_classes + 2) > 0)
        else:
            found.append(torch.zeros(num_classes + 2, dtype=torch.bool, device=code.device).index_fill_(0, code, True))
    if not found:
        return []
    table = torch.stack(found).cpu()
    return [(row[:num_classes].nonzero().flatten().tolist(), int(row[-1])) for row in table]


def class_masks(label: Tensor, classes: Sequence[int], out: Tensor | None = None) -> Tensor:
    """Returns the mask of each class.

    Args:
        label: Integer class indices, (H, W).
        classes: The n classes.
        out: bool (n, H, W) to write into; None: a new tensor.

    Returns:
        bool (n, H, W).
    """
    if out is None:
        out = torch.empty(len(classes), *label.shape, dtype=torch.bool, device=label.device)
    for mask, index in zip(out, classes, strict=True):
        torch.eq(label, index, out=mask)
    return out
