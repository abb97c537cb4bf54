"""Hard-pixel selection for cross entropy: OHEM by a probability threshold, and the hardest share of pixels.

Papers: PSPNet with deep supervision and OHEM as trained by pytorch-segmentation-toolbox (loss/criterion.py,
``OhemCrossEntropy2d`` behind ``CriterionOhemDSN``), and AOT (NeurIPS 2021; networks/layers/loss.py,
``CrossEntropyLoss``), whose rule goes back to DeepLab's hard example mining.

Differences from the released codes: the selection stays on the device, and the probability of a pixel's true class
comes from its loss, p = exp(-cross entropy). Pixels with a NaN loss are always kept, so that the loss of a broken
network is NaN. A pixel is valid if its label is not ``ignore_index``.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmplugins.functional.compat import is_compiling
from mmplugins.functional.device import cpu_kernels
from mmplugins.functional.upsampled import UpsampledLogits


class HardPixels(NamedTuple):
    """Outcome of a selection.

    Attributes:
        kept: Selected pixels, bool, shape (N, H, W).
        threshold: Largest probability of the true class that is kept, scalar.
        kept_fraction: Share of the valid pixels that is kept, scalar; 0 if there are none.
    """

    kept: Tensor
    threshold: Tensor
    kept_fraction: Tensor


def kth_smallest(values: Tensor, k: int | Tensor) -> Tensor:
    """Finds the k-th smallest of non-negative values.

    On the CPU a count goes to NumPy's partition. Elsewhere, and where the count is known on the device only,
    ``kth_smallest_by_bits`` finds the same value.

    Args:
        values: float32 or float64, non-negative, at least one; any shape.
        k: 1 for the smallest; an integer scalar tensor where it is known on the device only.

    Returns:
        Scalar of the values' dtype; infinity if a tensor k exceeds the number of values.
    """
    if isinstance(k, int) and cpu_kernels(values):
        if is_compiling():
            return values.flatten().kthvalue(k).values
        return torch.from_numpy(np.partition(values.detach().numpy(), k - 1, axis=None)[k - 1 : k])[0]
    return kth_smallest_by_bits(values, k)


def kth_smallest_by_bits(values: Tensor, k: int | Tensor) -> Tensor:
    """Does the same by bisection, on any device, without waiting for it.

    The bits of non-negative floats, read as an integer, have the order of the floats: bisection over the bits needs
    one count per bit, no sort and no copy of the values.
    """
    bits = values.view(torch.int32 if values.dtype == torch.float32 else torch.int64)
    low = torch.zeros((), dtype=bits.dtype, device=bits.device)
    high = torch.full((), torch.inf, dtype=values.dtype, device=bits.device).view(bits.dtype)
    for _ in range(31 if values.dtype == torch.float32 else 63):
        middle = low + (high - low) // 2
        enough = torch.count_nonzero(bits <= middle) >= k
        high = torch.where(enough, middle, high)
        low = torch.where(enough, low, middle + 1)
    return high.view(values.dtype)


def ohem_threshold(prob: Tensor, valid: Tensor, thresh: float, min_kept: int | float) -> Tensor:
    """Finds the probability up to which a pixel counts as hard.

    1. A pixel is hard if the probability of its true class is at most ``thresh``.
    2. If fewer than K pixels are, the threshold rises to the K-th smallest probability.
    3. If there are at most K valid pixels, it is 1.

    Args:
        prob: Probability of the true class, any shape.
        valid: The valid pixels, bool, same shape.
        thresh: Probability in [0, 1].
        min_kept: K, as a count, or as a fraction in (0, 1) of the valid pixels.

    Returns:
        The threshold, a scalar tensor.
    """
    num_valid = torch.count_nonzero(valid)
    thresh = torch.full((), thresh, dtype=prob.dtype, device=prob.device)
    one = torch.ones_like(thresh)
    if 0 < min_kept < 1:
        count = torch.ceil(min_kept * num_valid).long()
        kth = kth_smallest(torch.where(valid, prob, torch.inf), count)
    elif 0 < min_kept < prob.numel():
        count = min_kept
        kth = kth_smallest(torch.where(valid, prob, torch.inf), min_kept)
    else:
        count = min_kept
        kth = thresh
    return torch.where(num_valid <= count, one, torch.maximum(kth, thresh))


def zoomed_probability(
    logits: Tensor | UpsampledLogits, label: Tensor, stride: int, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Samples the probability of the true class on a grid that is ``stride`` times coarser.

    Follows ``scipy.ndimage.zoom`` with a factor of 1/stride: corners aligned, round(size / stride) points,
    probabilities linear, labels nearest. At some sizes (713, 480, 256, ...) the last grid coordinate exceeds the
    image by a rounding error, and scipy fills such points with 0: label 0 at probability 0. The same is done here, as
    the released code's threshold depends on it.

    Args:
        logits: Shape (N, C, H, W); or ``UpsampledLogits`` of that shape.
        label: int64, shape (N, H, W).
        stride: Integer above 1.
        ignore_index: Label of pixels that are not valid.

    Returns:
        Probability of the true class (1 where not valid), shape (N, h, w), and the labels, shape (N, h, w).
    """
    rows, columns = (_zoom_grid(size, stride, logits.device) for size in logits.shape[2:])
    zoomed_label = label[:, rows.nearest[:, None], columns.nearest]  # (N, h, w)
    outside = rows.outside[:, None] | columns.outside  # (h, w)
    zoomed_label = zoomed_label.masked_fill(outside, 0)
    index = zoomed_label.masked_fill(zoomed_label == ignore_index, 0)[:, None]  # (N, 1, h, w)
    upsampled = isinstance(logits, UpsampledLogits)
    prob = torch.zeros(zoomed_label.shape, dtype=logits.dtype, device=logits.device)
    for row, row_weight in ((rows.before, 1 - rows.fraction), (rows.after, rows.fraction)):
        for column, column_weight in ((columns.before, 1 - columns.fraction), (columns.after, columns.fraction)):
            corner = logits.points(row, column) if upsampled else logits[:, :, row[:, None], column]
            corner = corner.softmax(1)  # (N, C, h, w)
            share = (row_weight[:, None] * column_weight).to(prob.dtype)
            prob += share * corner.gather(1, index).squeeze(1)
    return prob.masked_fill(outside, 0).masked_fill(zoomed_label == ignore_index, 1), zoomed_label


class _ZoomGrid(NamedTuple):
    before: Tensor
    after: Tensor
    fraction: Tensor
    nearest: Tensor
    outside: Tensor


def _zoom_grid(size: int, stride: int, device: torch.device) -> _ZoomGrid:
    points = round(size * (1.0 / stride))
    if points < 1:
        raise ValueError(f'threshold_stride={stride} leaves no point of {size} pixels; choose a smaller one')
    step = (size - 1) / (points - 1) if points > 1 else 1.0
    position = step * torch.arange(points, dtype=torch.float64, device=device)
    before = position.floor().long().clamp(max=size - 1)
    after = (before + 1).clamp(max=size - 1)
    nearest = (position + 0.5).floor().long().clamp(max=size - 1)
    return _ZoomGrid(before, after, position - before, nearest, position > size - 1)


def ohem_pixels(
    logits: Tensor | UpsampledLogits,
    label: Tensor,
    pixel_loss: Tensor,
    thresh: float = 0.7,
    min_kept: int | float = 100000,
    threshold_stride: int = 1,
    ignore_index: int = 255,
) -> HardPixels:
    """Selects hard pixels by the probability of their true class.

    1. p = exp(-cross entropy).
    2. Find the threshold on all pixels, or on a grid ``threshold_stride`` times coarser (see ``zoomed_probability``)
       with ``min_kept // threshold_stride**2`` pixels to keep.
    3. Keep the valid pixels with p at most the threshold.

    Args:
        logits: Shape (N, C, H, W); used only with a stride above 1.
        label: int64, shape (N, H, W).
        pixel_loss: Unweighted cross entropy of each pixel, shape (N, H, W).
        thresh: Probability in [0, 1].
        min_kept: Least number of pixels of the whole batch to keep, or a fraction in (0, 1) of the valid ones.
        threshold_stride: Stride of the search grid.
        ignore_index: Label of pixels that are not valid.

    Returns:
        The selection; no gradient flows through it.
    """
    with torch.no_grad():
        valid = label != ignore_index
        prob = pixel_loss.neg().exp_()  # step 1
        if threshold_stride == 1:  # step 2
            threshold = ohem_threshold(prob, valid, thresh, min_kept)
        else:
            zoomed, zoomed_label = zoomed_probability(logits, label, threshold_stride, ignore_index)
            if min_kept >= 1:
                min_kept = min_kept // threshold_stride**2
            threshold = ohem_threshold(zoomed, zoomed_label != ignore_index, thresh, min_kept)
        kept = valid & ~(prob > threshold)  # step 3; NaN is not above anything, hence kept
        fraction = torch.count_nonzero(kept) / torch.count_nonzero(valid).clamp(min=1)
    return HardPixels(kept, threshold, fraction)


def topk_count(step: int, num_pixels: int, top_k_percent_pixels: float, hard_example_mining_step: int) -> int:
    """Returns the number of pixels of an image that are kept at a training step.

    The share falls linearly from all pixels at step 0 to ``top_k_percent_pixels`` at ``hard_example_mining_step``.

    Args:
        step: Training step, from 0.
        num_pixels: Pixels of an image, valid or not.
        top_k_percent_pixels: Final share, in (0, 1].
        hard_example_mining_step: Length of the fall; 0 for the final share from the start.

    Returns:
        The number, at least 1 if there is a pixel.
    """
    # The released code adds 1e-5 to avoid a division by zero; kept, because it can move the number by one.
    progress = min(1.0, step / (hard_example_mining_step + 1e-5)) if hard_example_mining_step else 1.0
    return max(min(1, num_pixels), int((progress * top_k_percent_pixels + (1.0 - progress)) * num_pixels))
