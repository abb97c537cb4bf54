"""Pixels that a mask loss ignores, such as those labelled 255, and the logits and points that are ignored with them.

An ignored pixel must change nothing, whatever is predicted, drawn or labelled there. A value at a point is made of
four pixels of the mask and four logits: a point is valid if none of the eight is ignored, and a logit is ignored if
every pixel that it covers is. So the border of an ignored region, half a pixel wide, and next to ignored logits half a
logit, is ignored too.

Letters: h w size of the logits, H W of the masks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.device import cpu_kernels
from mmplugins.functional.masks.sampled_masks import sample_masks

IGNORED_LOGIT = -1e4  # certain background, also in half precision


class Ignored(NamedTuple):
    """What is ignored in an image.

    Attributes:
        pixels: bool (H, W), the ignored pixels.
        logits: bool (h, w), the logits that cover ignored pixels only.
    """

    pixels: Tensor
    logits: Tensor

    def valid_points(self, points: Tensor) -> Tensor:
        """Returns which points, x,y in 0 to 1, (..., 2), are made of nothing that is ignored; bool (...)."""
        flat = points.reshape(-1, 2)
        found = sample_masks(self.pixels[None], flat)[0] + sample_masks(self.logits[None], flat)[0]
        return (found == 0).view(points.shape[:-1])

    def upsampled(self) -> Tensor:
        """Returns which pixels, bool (H, W), are ignored or upsampled from an ignored logit."""
        touched = F.interpolate(
            self.logits[None, None].float(), self.pixels.shape, mode='bilinear', align_corners=False
        )
        return self.pixels | (touched[0, 0] > 0)

    def clear(self, maps: Tensor) -> Tensor:
        """Sets ignored logits to 0, maps (..., h, w), in place: not even a NaN there may matter."""
        return maps.masked_fill_(self.logits, 0)


def find_ignored(valid: Sequence[Tensor | None] | None, images: int, size: Sequence[int]) -> list[Ignored | None]:
    """Finds what is ignored in each image.

    Args:
        valid: For each image bool (H, W), False for ignored pixels, or None; None: there are none.
        images: Number of images.
        size: h, w of the logits.

    Returns:
        For each image what is ignored; None if, as far as is known without waiting for the device, nothing is.
    """
    found: list[Ignored | None] = []
    for pixels in [None] * images if valid is None else valid:
        if pixels is None or (cpu_kernels(pixels) and bool(pixels.all())):
            found.append(None)
            continue
        logits = F.adaptive_max_pool2d(pixels[None].float(), tuple(size))[0] == 0
        found.append(Ignored(~pixels.bool(), logits))
    return found
