"""Losses that compare a map with a binary mask as regions: soft IoU, and weights that stress a mask's edge.

Paper: PFNet (CVPR 2021), after F3Net (AAAI 2020). Released code: PFNet's loss.py, ``IOU`` and ``structure_loss``.

The released ``structure_loss`` passes ``reduce='none'``, a legacy flag that is true, where ``reduction='none'`` was
meant: its cross entropy is the plain mean and the weights cancel. ``structure_loss`` has both: variant 'paper'
weights every pixel, 'released' gives the file's numbers.

Deliberate differences:

- Soft IoU has no smoothing term, as in the released code, but stays finite: where intersection and union both vanish
  (an empty mask and a prediction that is 0 in float32) the ratio is 0, which is its limit, so the loss is 1 and its
  gradient 0.
- Pixels have a count: 2 counts a pixel twice in every sum, mean and weight; a pixel with the count 0 is not valid.
- The box filter sums along one axis and then the other, and makes sums of 2, 4, 8, ... neighbours from one another.
- Of ``UpsampledLogits`` an image is upsampled at a time.
- The value and the gradient, which is written by hand, are computed together, on the CPU a few images at a time. Only
  the gradient is kept for the backward pass; there is no second derivative.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.device import at_once, cpu_kernels
from mmplugins.functional.gradients import first_order
from mmplugins.functional.resizing import BandedResizer, PlainResizer
from mmplugins.functional.upsampled import UpsampledLogits

VARIANTS = ('paper', 'released')
_CHUNK = 1 << 22  # pixels worked on at once where maps are upsampled, at least an image
_CPU_CHUNK = 1 << 15  # pixels: the eight or so float32 buffers of this size stay in a core's L2 cache


def box_filter(x: Tensor, kernel_size: int) -> Tensor:
    """Averages over a square window around each pixel; what lies outside counts as 0.

    Equals ``avg_pool2d(x, kernel_size, stride=1, padding=kernel_size // 2)``.

    Args:
        x: Floating, shape (..., H, W).
        kernel_size: Side of the window in pixels, odd; may exceed H and W.

    Returns:
        Means, shape and dtype of ``x``.

    Raises:
        ValueError: The side is even or not positive.
    """
    radius = check_kernel_size(kernel_size) // 2
    padded = F.pad(x, (radius, radius, radius, radius))
    rows = _window_sum(padded, kernel_size, -2)  # (..., H, W + 2 * radius)
    return _window_sum(rows, kernel_size, -1).div_(kernel_size**2)


def check_kernel_size(kernel_size: int) -> int:
    """Returns the side of a window if it is odd and positive, else raises ValueError."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f'kernel_size must be odd and positive, so that a window has a centre, got {kernel_size}')
    return kernel_size


def _window_sum(x: Tensor, size: int, dim: int) -> Tensor:
    """Sums every window of ``size`` neighbours along one axis; the axis shrinks by ``size - 1``.

    Sums over 1, 2, 4, ... neighbours are made from one another; those in the binary expansion of ``size``, set end
    to end, make up the window. Unlike a difference of running sums, rounding does not grow with the axis.
    """
    length = x.shape[dim] - size + 1
    total, start, power = None, 0, 1
    while True:
        if size & power:
            part = x.narrow(dim, start, length)
            total = part.clone() if total is None else total.add_(part)
            start += power
        if 2 * power > size:
            return total
        rest = x.shape[dim] - power
        x = x.narrow(dim, 0, rest) + x.narrow(dim, power, rest)
        power *= 2


def edge_weight(mask: Tensor, kernel_size: int = 31, strength: float = 5.0) -> Tensor:
    """Weighs pixels by how much they differ from their surroundings: 1 + strength * |box(mask) - mask|.

    Args:
        mask: Floating in [0, 1], shape (..., H, W).
        kernel_size: Side of the surroundings in pixels, odd.
        strength: Factor of the difference; 0 weighs all pixels the same.

    Returns:
        Weights in [1, 1 + strength], shape and dtype of ``mask``.
    """
    return box_filter(mask, kernel_size).sub_(mask).abs_().mul_(strength).add_(1)


def soft_iou_loss(logits: Tensor | UpsampledLogits, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Computes 1 - I/U of each image, with I = sum(p m), U = sum(p + m - p m) and p the sigmoid.

    Args:
        logits: float32 or float64, shape (N, H, W); or ``UpsampledLogits`` of that shape.
        mask: bool, integer or floating, values in [0, 1], shape (N, H, W); no gradient flows into it.
        count: How often each pixel counts, shape (N, H, W); 0: not valid; None: once.

    Returns:
        Loss of each image in [0, 1], shape (N,); 0 for an image without a valid pixel.
    """
    return _apply(logits, mask, count, None, _Terms('none', False, 1, 0.0))


def bce_iou_loss(logits: Tensor | UpsampledLogits, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Computes the binary cross entropy plus the soft IoU loss of each image.

    The cross entropy is averaged over the pixels of the batch: an image has its share of it, scaled so that the mean
    over images is the mean over pixels. Arguments and result are those of ``soft_iou_loss``.
    """
    return _apply(logits, mask, count, batch_mean_scale(logits, count), _Terms('plain', False, 1, 0.0))


def structure_loss(
    logits: Tensor | UpsampledLogits,
    mask: Tensor,
    count: Tensor | None = None,
    kernel_size: int = 31,
    strength: float = 5.0,
    variant: str = 'paper',
) -> Tensor:
    """Computes the cross entropy plus the soft IoU loss of each image, with pixels weighted by ``edge_weight``.

    1. w = edge_weight(mask) times the count; pixels that are not valid are background to their neighbours, so
       that padding with them changes nothing.
    2. Cross entropy: variant 'paper' sum(w bce) / sum(w) of each image; 'released' the plain mean over the pixels of
       the batch, an image's share of it scaled as in ``bce_iou_loss``.
    3. Soft IoU loss with w in both sums.

    Args:
        logits: float32 or float64, shape (N, H, W); or ``UpsampledLogits`` of that shape.
        mask: bool, integer or floating, values in [0, 1], shape (N, H, W); no gradient flows into it.
        count: How often each pixel counts, shape (N, H, W); 0: not valid; None: once.
        kernel_size: Side of a pixel's surroundings, odd.
        strength: Factor of the difference from the surroundings.
        variant: 'paper' or 'released'.

    Returns:
        Loss of each image, shape (N,); 0 for an image without a valid pixel.

    Raises:
        ValueError: The variant is unknown or the side of the window is even.
    """
    check_variant(variant)
    check_kernel_size(kernel_size)
    scale = batch_mean_scale(logits, count) if variant == 'released' else None
    entropy = 'plain' if variant == 'released' else 'weighted'
    return _apply(logits, mask, count, scale, _Terms(entropy, True, kernel_size, strength))


def check_variant(variant: str) -> str:
    """Returns the variant if there is one of that name, else raises ValueError."""
    if variant not in VARIANTS:
        raise ValueError(
            f"variant must be one of {VARIANTS}, got {variant!r}; 'paper' weights the cross entropy pixel by pixel, "
            "'released' averages it as the released code does"
        )
    return variant


def batch_mean_scale(logits: Tensor | UpsampledLogits, count: Tensor | None) -> Tensor:
    """Returns the factor, a scalar, that turns an image's sum into its share of the mean over the batch's pixels.

    It is (images with a valid pixel) / (sum of counts), so that the mean over those images of factor * sum is the mean
    over the pixels; 0 if no pixel is valid.
    """
    if count is None:
        share = 1 / max(logits.shape[1] * logits.shape[2], 1)
        return torch.full((), share, dtype=logits.dtype, device=logits.device)
    total = count.sum((1, 2), dtype=logits.dtype)  # (N,)
    return (total > 0).sum() / total.sum().clamp(min=_floor(total))


class _Terms(NamedTuple):
    """What a region loss is made of.

    Attributes:
        entropy: Cross entropy 'none', 'plain' (counts alone) or 'weighted' (edge weight too).
        edges: Whether the edge weight enters.
        kernel_size: Of the edge weight.
        strength: Of the edge weight.
    """

    entropy: str
    edges: bool
    kernel_size: int
    strength: float


def _apply(
    logits: Tensor | UpsampledLogits, mask: Tensor, count: Tensor | None, scale: Tensor | None, terms: _Terms
) -> Tensor:
    if isinstance(logits, UpsampledLogits):
        return _RegionLoss.apply(logits.logits, mask, count, scale, terms, logits.align_corners)
    return _RegionLoss.apply(logits, mask, count, scale, terms, None)


class _RegionLoss(torch.autograd.Function):
    """Value of each image, (N,), and gradient together, a few images at a time; upsampled where the mask is larger."""

    @staticmethod
    def forward(
        ctx,
        logits: Tensor,  # (N, H, W), or (N, h, w) with align_corners
        mask: Tensor,
        count: Tensor | None,
        scale: Tensor | None,
        terms: _Terms,
        align_corners: bool | None,
    ) -> Tensor:
        with_grad = ctx.needs_input_grad[0]
        value = logits.new_empty(len(logits))
        grad = torch.empty_like(logits) if with_grad else None
        resize = None if align_corners is None else _Resize(logits, mask, align_corners)
        for images in _chunks(mask, all_at_once=resize is None):
            part = None if count is None else count[images].to(logits.dtype)
            maps = logits[images] if resize is None else resize.up(logits[images])
            value[images], slope = _region_loss(maps, mask[images], part, scale, terms, with_grad)
            if with_grad:
                grad[images] = slope if resize is None else resize.down(slope)
        if with_grad:
            ctx.save_for_backward(grad)
        return value

    @staticmethod
    @first_order('a region loss (soft_iou_loss, bce_iou_loss, structure_loss)')
    def backward(ctx, grad_value: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * grad_value[:, None, None], None, None, None, None, None


class _Resize:
    """Upsamples maps to a mask's size and brings gradients back down."""

    def __init__(self, logits: Tensor, mask: Tensor, align_corners: bool) -> None:
        kind = BandedResizer if cpu_kernels(logits) else PlainResizer
        step = max(1, _CPU_CHUNK // max(mask.shape[2], 1))
        self._resizer = kind(logits.shape[1:], mask.shape[1:], logits.dtype, align_corners, step)

    def up(self, maps: Tensor) -> Tensor:
        """Upsamples (n, h, w) to (n, H, W)."""
        wide = self._resizer.widen(maps)
        return torch.cat([self._resizer.rows(wide, number) for number in range(len(self._resizer.blocks))], 1)

    def down(self, slope: Tensor) -> Tensor:
        """Brings the gradient (n, H, W) to (n, h, w)."""
        total = None
        for number, rows in enumerate(self._resizer.blocks):
            total = self._resizer.add_rows(total, [slope[:, rows]], number)
        return self._resizer.narrow(total)[0]


def _chunks(mask: Tensor, all_at_once: bool) -> list[slice]:
    """Splits the images: on the CPU into groups that fit the cache, elsewhere into large ones or not at all."""
    pixels = max(mask.shape[1:].numel(), 1)
    step = at_once(mask, _CPU_CHUNK // pixels, len(mask) if all_at_once else _CHUNK // pixels)
    return [slice(start, start + step) for start in range(0, len(mask), step)]


def _region_loss(
    logits: Tensor, mask: Tensor, count: Tensor | None, scale: Tensor | None, terms: _Terms, with_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Computes the value (n,) of n images and, if asked for, its gradient (n, H, W).

    1. Weights: w for the regions, v for the cross entropy; None stands for 1.
    2. Sums over an image: I = sum(p m w), U = sum((p + m) w) - I, E = sum((softplus(x) - x m) v).
    3. Value: E * scale + 1 - I/U; scale is 1 / sum(w) where none is given.
    4. Gradient: the derivative to p is a m w + b w with b = I/U / U and a = -1/U - b; times (1 - p) p; plus
       (p - m) scale v.

    Additions and products come in the order in which autograd has them for the released formula, so that float32
    rounds alike: PFNet's first training steps amplify a difference in the last digit a thousandfold each.
    """
    mask = mask.to(logits.dtype)
    if count is not None:
        mask = mask * (count != 0)  # what is not valid is background to its neighbours
        logits = logits.masked_fill(count == 0, 0)  # NaN there must not reach the sums
    weight = edge_weight(mask, terms.kernel_size, terms.strength) if terms.edges else None  # step 1
    if count is not None:
        weight = count if weight is None else weight.mul_(count)
    entropy_weight = weight if terms.entropy == 'weighted' else count

    prob = logits.sigmoid()  # step 2
    inter = _image_sum(_times(prob * mask, weight))
    union = (_image_sum(_times(prob + mask, weight)) - inter).clamp_(min=_floor(logits))
    value = 1 - inter / union  # step 3
    if count is not None:
        value = value * (_image_sum(count) > 0)
    if terms.entropy == 'weighted':
        scale = _image_sum(weight).clamp_(min=_floor(logits)).reciprocal_()
    if terms.entropy != 'none':
        entropy = F.softplus(logits).sub_(logits * mask)
        value = value + scale * _image_sum(_times(entropy, entropy_weight))
    if not with_grad:
        return value, None

    b = (inter / union / union)[:, None, None]  # step 4
    a = -1 / union[:, None, None] - b
    slope = (a * mask).add_(b) if weight is None else (weight * a).mul_(mask).add_(weight * b)
    slope.mul_(1 - prob).mul_(prob)
    if terms.entropy != 'none':
        error = prob.sub_(mask).mul_(scale[:, None, None] if scale.dim() else scale)
        slope.add_(_times(error, entropy_weight))
    return value, slope


def _times(x: Tensor, weight: Tensor | None) -> Tensor:
    """Multiplies in place."""
    return x if weight is None else x.mul_(weight)


def _floor(x: Tensor) -> float:
    """Returns the least divisor: large enough that its reciprocal times a weight does not overflow."""
    return torch.finfo(x.dtype).tiny * 2**30


def _image_sum(x: Tensor) -> Tensor:
    return x.sum((1, 2))
