"""Checks of label maps against logits."""

import torch
from torch import Tensor

from mmplugins.functional.device import DeferredReads
from mmplugins.functional.upsampled import UpsampledLogits

NOTHING = torch.iinfo(torch.int64).min  # as ignore_index: every label is a class


def check_floating(name: str, value: Tensor | UpsampledLogits) -> None:
    """Raises TypeError if logits are not floating."""
    if not value.dtype.is_floating_point:
        raise TypeError(f'{name} must be floating-point logits, got {value.dtype}; pass what the head computed')


def check_label_shape(logits: Tensor | UpsampledLogits, label: Tensor) -> None:
    """Checks that a label map fits the logits.

    Args:
        logits: Shape (N, C, H, W), C at least 2.
        label: Integer class indices, shape (N, H, W).

    Raises:
        ValueError: The shapes do not fit, or there is one channel, whose softmax is 1 whatever the logit.
        TypeError: The label is not of an integer dtype.
    """
    if logits.dim() != 4 or label.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f'expected logits (N, C, H, W) and labels (N, H, W), got {tuple(logits.shape)} and {tuple(label.shape)}; '
            'resize the logits to the label size, and squeeze a channel axis of the label'
        )
    if logits.shape[1] < 2:
        raise ValueError(
            f'expected logits of two classes or more, got {tuple(logits.shape)}: the softmax over one channel is 1 '
            'whatever the logit, and nothing would be learned; give the head num_classes=2 and out_channels=2, or '
            'take a loss on binary masks (StructureLoss, BCEIoULoss, SoftIoULoss)'
        )
    if label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
        raise TypeError(f'labels must be integers (class indices), got {label.dtype}; call .long() on class indices')


def check_weight_shape(weight: Tensor | None, label: Tensor) -> None:
    """Raises ValueError if there is a pixel weight that has not the label's shape (N, H, W)."""
    if weight is not None and weight.shape != label.shape:
        raise ValueError(f'expected a weight for each pixel, {tuple(label.shape)}, got {tuple(weight.shape)}')


@torch.compiler.disable
def check_label_range(label: Tensor, num_classes: int, ignore_index: int, reads: DeferredReads) -> Tensor:
    """Checks that labels are classes, without a host sync on CUDA.

    Args:
        label: int64 class indices, any shape.
        num_classes: Number of classes C.
        ignore_index: Value that is allowed beside 0..C-1; ``NOTHING`` allows none.
        reads: Queue for the outcome. On the CPU an error is raised at once; on CUDA at a later call, when the
            outcome has arrived, and until then wrong labels are ignored rather than used as an index.

    Returns:
        The labels; on CUDA a copy in which values out of range are ``ignore_index``.

    Raises:
        ValueError: Values are out of range; it names them and the number of classes.
    """
    reads.poll()
    if label.numel() == 0:
        return label
    is_class = torch.where(label == ignore_index, 0, label)
    lowest, highest = is_class.aminmax()

    def read(found: Tensor) -> None:
        low, high = found.tolist()
        if low < 0 or high >= num_classes:
            raise ValueError(_out_of_range(label, num_classes, ignore_index))

    if reads.push(torch.stack((lowest, highest)), read):
        return label
    return torch.where((is_class < 0) | (is_class >= num_classes), ignore_index, label)


def class_weight_of(class_weight: Tensor, label: Tensor, ignore_index: int) -> Tensor:
    """Gives each pixel the weight of its class.

    Args:
        class_weight: Shape (C,).
        label: int64 class indices, shape (N, H, W).
        ignore_index: Label whose pixels get the weight 0.

    Returns:
        Shape (N, H, W), dtype of the weights.
    """
    ignored = label == ignore_index
    return class_weight[label.masked_fill(ignored, 0)].masked_fill(ignored, 0)


def _out_of_range(label: Tensor, num_classes: int, ignore_index: int) -> str:
    wrong = label[(label != ignore_index) & ((label < 0) | (label >= num_classes))]
    values = wrong.unique().tolist()
    shown = ', '.join(map(str, values[:10])) + (', ...' if len(values) > 10 else '')
    ignored = '' if ignore_index == NOTHING else f' or be ignore_index={ignore_index}'
    return (
        f'labels hold {shown} ({wrong.numel()} pixels), but there are {num_classes} classes, '
        f'so labels must lie in 0..{num_classes - 1}{ignored}; '
        'check num_classes, reduce_zero_label and the data set'
    )
