"""Logits that stand for their upsampling to a label's size, which is never made at once.

A decode head computes logits (N, C, h, w), and the toolboxes upsample them to the label's size for the loss: a map of
N x C x H x W and two or three more of its size in the backward pass, most of what a training step holds. Here a loss
is computed on a block of rows of one image at a time, and the gradient of a block is brought to low resolution before
the next one is made.

On the CPU a block fits the processor's cache, and rows and columns are upsampled by products with bands of the
interpolation matrix. The plain path, which is what a GPU runs, takes larger blocks and interpolates between two rows
and two columns: a product might be rounded to TensorFloat-32. For cross entropy and the accuracy a GPU has kernels in
place of blocks where Triton is there, see ``triton_kernels``.

Letters: N images, C classes, h w size of the logits, H W of the labels, R rows of a block.
"""

from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.device import (
    at_once,
    cpu_kernels,
    full_dtype,
    triton_serves,
    upload,
    without_autocast,
    zeros_buffer,
)
from mmplugins.functional.resizing import BandedResizer, interpolation_matrix, row_blocks

_CPU_ELEMENTS, _ELEMENTS = 1 << 19, 1 << 24  # of a block, on the CPU for each thread, and elsewhere; at least a row

Visit = Callable[[int, slice, Tensor], Tensor | None]


class UpsampledLogits:
    """Logits of low resolution that a loss takes in place of what ``interpolate`` would make of them.

    Args:
        logits: Floating, shape (N, C, h, w), or (N, h, w) where there is one map an image.
        size: H, W.
        align_corners: As in ``interpolate``, which is bilinear.

    Attributes:
        shape: Of the upsampled logits, (N, C, H, W) or (N, H, W).

    Raises:
        ValueError: The logits have another number of axes.
    """

    def __init__(self, logits: Tensor, size: Sequence[int], align_corners: bool = False) -> None:
        if logits.dim() not in (3, 4):
            raise ValueError(f'expected logits (N, C, h, w) or (N, h, w), got {tuple(logits.shape)}')
        self.logits = logits
        self.size = (int(size[0]), int(size[1]))
        self.align_corners = align_corners
        self.shape = torch.Size((*logits.shape[:-2], *self.size))

    @property
    def dtype(self) -> torch.dtype:
        """Of the logits."""
        return self.logits.dtype

    @property
    def device(self) -> torch.device:
        """Of the logits."""
        return self.logits.device

    def __len__(self) -> int:
        return len(self.logits)

    def __iter__(self) -> Iterator[Tensor]:
        """Upsamples image by image: (C, H, W) or (H, W) each."""
        return (self._like(self.logits[index : index + 1]).full()[0] for index in range(len(self)))

    def __getitem__(self, index: int) -> Tensor:
        """Upsamples one image: (C, H, W) or (H, W)."""
        if not isinstance(index, int):
            raise TypeError(
                f'logits of low resolution are indexed by the number of an image, got {index!r}; full() upsamples all '
                'of them to a tensor'
            )
        return self._like(self.logits[index][None]).full()[0]

    def dim(self) -> int:
        """Number of axes."""
        return self.logits.dim()

    def to(self, dtype: torch.dtype) -> 'UpsampledLogits':
        """The same in another precision."""
        return self._like(self.logits.to(dtype))

    def detach(self) -> 'UpsampledLogits':
        """The same without its graph."""
        return self._like(self.logits.detach())

    def squeeze(self, dim: int) -> 'UpsampledLogits':
        """The same without an axis of length 1."""
        return self._like(self.logits.squeeze(dim))

    def _like(self, logits: Tensor) -> 'UpsampledLogits':
        return UpsampledLogits(logits, self.size, self.align_corners)

    def points(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Upsamples some rows and columns.

        Args:
            rows: int64, shape (p,), each from 0 to H - 1.
            columns: int64, shape (q,), each from 0 to W - 1.

        Returns:
            Shape (N, C, p, q).
        """
        heights, widths = self.neighbours()
        return widths.mix(heights.mix(self.logits, -2, rows), -1, columns)

    def full(self) -> Tensor:
        """Upsamples all at once."""
        maps = self.logits if self.dim() == 4 else self.logits[:, None]
        return F.interpolate(maps, self.size, mode='bilinear', align_corners=self.align_corners).view(self.shape)

    def neighbours(self) -> list['_Neighbours']:
        """What rows, and what columns, lie between."""
        axes = zip(self.logits.shape[-2:], self.size, strict=True)
        return [_Neighbours(*axis, self.logits, self.align_corners) for axis in axes]


def triton_kernels(logits: UpsampledLogits) -> ModuleType | None:
    """Returns the module of kernels that serve some logits in place of ``over_blocks``; None: there is none.

    Args:
        logits: Of any shape.
    """
    serves = triton_serves(logits.logits) and logits.dtype in (torch.float32, torch.float64)
    if not serves or logits.dim() != 4 or not logits.shape.numel() or not logits.logits.numel():
        return None
    from mmplugins.functional import upsampled_triton  # here, so that nothing imports Triton without need

    return upsampled_triton


def over_blocks(logits: UpsampledLogits, visit: Visit, with_grad: bool = False) -> Tensor | None:
    """Upsamples logits block by block.

    Args:
        logits: Of shape (N, C, H, W), detached, float32 or float64.
        visit: Called with an image's number, a slice of rows and the upsampled logits there, (R, C, W), less the
            same number for all classes of a pixel. It may write into these. Returns their gradient, (R, C, W), where
            one is asked for.
        with_grad: Whether to ask for gradients.

    Returns:
        The gradient to the logits, (N, C, h, w), or None.
    """
    grad = torch.zeros_like(logits.logits) if with_grad else None
    if not logits.shape.numel():
        return grad
    resizer = _resizer(logits)
    for image, maps in enumerate(logits.logits):
        found = _over_image(resizer, image, maps, visit, with_grad)
        if with_grad:
            grad[image] = found
    return grad


def _over_image(
    resizer: 'BandedResizer | _BetweenTwo', image: int, maps: Tensor, visit: Visit, with_grad: bool
) -> Tensor | None:
    # A softmax does not see what all classes of a pixel have in common. Without it float32 keeps its digits, and
    # interpolation commutes with taking it away.
    wide = resizer.widen((maps - maps.amax(0)).transpose(0, 1).contiguous())  # (h, C, W)
    total = zeros_buffer(wide.shape, wide.dtype, wide.device) if with_grad else None
    for number, rows in enumerate(resizer.blocks):
        field = visit(image, rows, resizer.rows_first(wide, number))
        if with_grad:
            resizer.add_rows_first(total, field, number)
    return resizer.narrow(total).transpose(0, 1) if with_grad else None


def count_correct(logits: UpsampledLogits, label: Tensor, ignore_index: int | None) -> Tensor:
    """Counts the valid pixels whose class has the largest logit; where another class has as large a one, they count.

    Args:
        logits: Of shape (N, C, H, W).
        label: Integer, shape (N, H, W).
        ignore_index: Label of pixels that are not valid; None: all are valid.

    Returns:
        An integer scalar.
    """
    logits = logits.detach().to(full_dtype(logits))
    if kernels := triton_kernels(logits):
        return kernels.correct_pixels(logits, label.long(), -1 if ignore_index is None else ignore_index)
    count = torch.zeros((), dtype=torch.int64, device=label.device)

    def visit(image: int, rows: slice, x: Tensor) -> None:
        classes = label[image, rows].long()
        index = classes.clamp(0, x.shape[1] - 1)
        correct = (x.gather(1, index[:, None]).squeeze(1) == x.amax(1)).logical_and_(index == classes)
        if ignore_index is not None:
            correct.logical_and_(classes != ignore_index)
        count.add_(torch.count_nonzero(correct))

    with without_autocast(logits.device):
        over_blocks(logits, visit)
    return count


def two_neighbours(size: int, full: int, dtype: torch.dtype, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Finds what each output along an axis lies between, as ``interpolate`` has it.

    Returns:
        The input before it, the one after it (the next, or the same one), and how far it is from the first to the
        second, 0 to 1; (full,) each, on the CPU.
    """
    weights = interpolation_matrix(size, full, dtype, align_corners)
    used = (weights != 0).to(torch.uint8)
    before, after = used.argmax(1), size - 1 - used.flip(1).argmax(1)
    return before, after, torch.where(before == after, 0, weights.gather(1, after[:, None])[:, 0])


class _Neighbours:
    """What each output along an axis lies between: two inputs, and how far from the first to the second."""

    def __init__(self, size: int, full: int, like: Tensor, align_corners: bool) -> None:
        self.size = size
        tables = two_neighbours(size, full, like.dtype, align_corners)
        self.before, self.after, self.fraction = (upload(x, like.device) for x in tables)

    def mix(self, maps: Tensor, dim: int, places: Tensor | slice = slice(None)) -> Tensor:
        """Interpolates along an axis, at all outputs or some."""
        first, second = (maps.index_select(dim, x[places]) for x in (self.before, self.after))
        return torch.lerp(first, second, self._along(dim, places))

    def unmix(self, total: Tensor, fields: Tensor, dim: int, places: slice = slice(None)) -> None:
        """Adds the gradient of ``mix``'s output to that of its input."""
        far = fields * self._along(dim, places)
        total.index_add_(dim, self.after[places], far)
        total.index_add_(dim, self.before[places], fields - far)

    def _along(self, dim: int, places: Tensor | slice) -> Tensor:
        return self.fraction[places].view(-1, *[1] * (-1 - dim))


class _BetweenTwo:
    """Takes and returns what ``BandedResizer`` does for maps whose rows come first."""

    def __init__(self, logits: UpsampledLogits, step: int) -> None:
        self.blocks = row_blocks(logits.size[0], step)
        self._heights, self._widths = logits.neighbours()

    def widen(self, maps: Tensor) -> Tensor:
        return self._widths.mix(maps, -1)

    def rows_first(self, wide: Tensor, block: int) -> Tensor:
        return self._heights.mix(wide, -3, self.blocks[block])

    def add_rows_first(self, total: Tensor, field: Tensor, block: int) -> None:
        self._heights.unmix(total, field, -3, self.blocks[block])

    def narrow(self, total: Tensor) -> Tensor:
        maps = total.new_zeros(*total.shape[:-1], self._widths.size)
        self._widths.unmix(maps, total, -1)
        return maps


def _resizer(logits: UpsampledLogits) -> BandedResizer | _BetweenTwo:
    row = max(logits.shape[1] * logits.shape[3], 1)
    step = at_once(logits.device, _CPU_ELEMENTS * torch.get_num_threads() // row, _ELEMENTS // row)
    if cpu_kernels(logits.device):
        return BandedResizer(logits.logits.shape[2:], logits.size, logits.dtype, logits.align_corners, step)
    return _BetweenTwo(logits, step)
