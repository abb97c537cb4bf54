"""Checks of binary masks against logits, and what in a mask is foreground, background and ignored."""

import torch
from torch import Tensor

from mmplugins.functional.compat import extremes
from mmplugins.functional.device import DeferredReads, cpu_kernels
from mmplugins.functional.upsampled import UpsampledLogits


def as_maps(logits: Tensor | UpsampledLogits, mask: Tensor) -> tuple[Tensor | UpsampledLogits, Tensor]:
    """Drops the channel axis of logits and mask.

    Args:
        logits: Shape (N, 1, H, W).
        mask: Shape (N, H, W) or (N, 1, H, W).

    Returns:
        Logits and mask, both (N, H, W).

    Raises:
        ValueError: There is more than one channel, or the sizes differ.
    """
    if logits.dim() != 4 or logits.shape[1] != 1:
        raise ValueError(
            f'expected logits (N, 1, H, W), one map an image, got {tuple(logits.shape)}; '
            'give the head out_channels=1, or take the channel of the foreground'
        )
    maps = mask.squeeze(1) if mask.dim() == 4 and mask.shape[1] == 1 else mask
    if maps.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f'expected a mask (N, H, W) or (N, 1, H, W) for logits {tuple(logits.shape)}, got {tuple(mask.shape)}; '
            'resize the logits to the size of the mask'
        )
    return logits.squeeze(1), maps


@torch.compiler.disable
def read_mask(mask: Tensor, ignore_index: int | None, reads: DeferredReads) -> tuple[Tensor, Tensor | None]:
    """Checks the values of a mask and tells ignored pixels from the rest, without a host sync on CUDA.

    1. A floating mask holds degrees of foreground in [0, 1] and a bool mask truth; neither has ignored pixels.
    2. An integer mask holds 0, 1 and ``ignore_index``.
    3. 255 is both what toolboxes ignore and the foreground of an 8-bit mask. A batch with 0 and 255 but no 1 is
       therefore taken for 8-bit masks, and raises, unless every image's ignored pixels are whole rows and columns,
       as padding makes them.

    Args:
        mask: bool, integer or floating, shape (N, H, W).
        ignore_index: Value of ignored pixels, or None.
        reads: Queue for the outcome. On the CPU an error is raised at once; on CUDA at a later call, when the
            outcome has arrived, and until then pixels with other values than those above are ignored.

    Returns:
        The mask, floating as it came or bool, (N, H, W); and whether each pixel takes part, bool, (N, H, W), or None
        if all do.

    Raises:
        ValueError: Other values occur; it names them and says what to do.
    """
    reads.poll()
    if mask.dtype == torch.bool or mask.numel() == 0:
        return mask, None
    if mask.is_floating_point():
        reads.push(extremes(mask), lambda found: _check_range(found, mask.dtype))
        return mask, None

    foreground = mask == 1
    valid = None if ignore_index is None else mask != ignore_index
    wrong = mask != foreground
    if valid is not None:
        wrong &= valid
    asking_is_free = cpu_kernels(mask)
    if asking_is_free and valid is not None and valid.all():
        valid = None
    doubtful = valid is not None and ignore_index == 255
    if asking_is_free and doubtful and foreground.any():  # nearly always there is a foreground
        doubtful = False
    like_8_bit = ~foreground.any() & ~_is_padding(~valid) if doubtful else wrong.new_zeros(())
    outcome = torch.stack((wrong.any(), like_8_bit))
    if reads.push(outcome, lambda found: _check_values(found, mask, ignore_index)):
        return foreground, valid
    return foreground, ~wrong if valid is None else valid & ~wrong


def _is_padding(ignored: Tensor) -> Tensor:
    """Tells whether the ignored pixels, bool (N, H, W), are whole rows and columns of each image; a bool scalar."""
    valid = ~ignored
    rows, columns = valid.any(2), valid.any(1)  # (N, H), (N, W)
    return (valid.sum((1, 2)) == rows.sum(1) * columns.sum(1)).all()


def _check_range(extremes: Tensor, dtype: torch.dtype) -> None:
    low, high = extremes.tolist()
    if not (low >= 0 and high <= 1):  # written so that NaN raises
        raise ValueError(
            f'a floating mask must lie in [0, 1], got {low:g} to {high:g} ({dtype}); divide an 8-bit mask by 255 or '
            'threshold it (mask > 127), and mark ignored pixels by weight 0'
        )


def _check_values(found: Tensor, mask: Tensor, ignore_index: int | None) -> None:
    wrong, like_8_bit = found.tolist()
    if wrong:
        values = mask.unique().tolist()
        shown = ', '.join(map(str, values[:10])) + (', ...' if len(values) > 10 else '')
        allowed = '0 and 1' if ignore_index is None else f'0, 1 and ignore_index={ignore_index}'
        raise ValueError(
            f'an integer mask must hold {allowed}, got {shown}; threshold an 8-bit mask (mask > 127) or divide it by '
            '255 as a floating mask'
        )
    if like_8_bit:
        raise ValueError(
            'the masks of this batch hold 0 and 255 but no 1: either they are 8-bit masks, then threshold them '
            '(mask > 127) or map 255 to 1 in the data set; or there is no foreground and 255 marks ignored pixels, '
            'then mark these by weight 0 or by another ignore_index'
        )
