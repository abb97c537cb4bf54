"""Bilinear sampling at points given in pixels, zeros outside, as terms of weighted sums of rows.

The rule is that of mmcv's deformable operators: a corner outside the map counts as zero, and a point a whole pixel or
more outside has neither a value nor a gradient.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Corners(NamedTuple):
    """The four pixels around each point, in the order top left, top right, bottom left, bottom right.

    Attributes:
        pixel: (..., 4), int32, row times width plus column; some pixel of the map where the corner lies outside.
        weight: (..., 4), bilinear weight, 0 outside.
        inside: (..., 4), bool.
        fraction: (..., 2), x and y of the point within its four pixels.
    """

    pixel: Tensor
    weight: Tensor
    inside: Tensor
    fraction: Tensor


def corners(x: Tensor, y: Tensor, width: int | Tensor, height: int | Tensor) -> Corners:
    """Finds the pixels around points and their weights.

    Args:
        x: (...), column in pixels; 0 is the centre of the first.
        y: (...), row in pixels.
        width: Of the map; a tensor must be int32 and broadcast with ``x``.
        height: Of the map.
    """
    columns, in_x, fx = _neighbours(x, width)
    rows, in_y, fy = _neighbours(y, height)
    rows = [row * width for row in rows]
    inside = torch.stack([b & a for b in in_y for a in in_x], -1)
    weight = torch.stack([b * a for b in (1 - fy, fy) for a in (1 - fx, fx)], -1)
    return Corners(
        pixel=torch.stack([row + column for row in rows for column in columns], -1),
        weight=weight.masked_fill_(~inside, 0),
        inside=inside,
        fraction=torch.stack([fx, fy], -1),
    )


def point_grads(dots: Tensor, found: Corners) -> tuple[Tensor, Tensor, Tensor]:
    """Computes gradients of the values sampled at points.

    Args:
        dots: (..., 4), product of each corner's row with the gradient of the value.
        found: What ``corners`` returned for the points.

    Returns:
        Three of (...): the derivative by a factor that scales the value, by x, and by y, in pixels.
    """
    top_left, top_right, bottom_left, bottom_right = dots.masked_fill(~found.inside, 0).unbind(-1)
    fx, fy = found.fraction.unbind(-1)
    top = torch.lerp(top_left, top_right, fx)
    bottom = torch.lerp(bottom_left, bottom_right, fx)
    by_x = torch.lerp(top_right - top_left, bottom_right - bottom_left, fy)
    return torch.lerp(top, bottom, fy), by_x, bottom - top


def _neighbours(position: Tensor, size: int | Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Returns the two pixels around each position along an axis, whether they are inside, and the fraction between."""
    near = (position > -1) & (position < size)
    position = torch.where(near, position, -1.0)  # NaN too; neither pixel is inside then
    first = position.floor()
    fraction = position - first
    first = first.int()
    pixels = [first.clamp(min=0), (first + 1).clamp_(max=size - 1)]
    return pixels, [position >= 0, near & (position < size - 1)], fraction
