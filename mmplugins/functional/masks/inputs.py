"""What a mask loss works on, checked once a step for its matching and its losses.

Shapes: L layers, B images, Q queries, h w size of the logits, G objects of an image, H W size of its masks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmplugins.functional.checks.masks import (
    MaskLogits,
    check_mask_logits,
    check_mask_values,
    check_masks,
    check_valid,
)
from mmplugins.functional.device import DeferredReads, full_dtype, full_precision
from mmplugins.functional.masks.ignored import Ignored, find_ignored
from mmplugins.functional.sets.pairs import PairBlock


class MaskInputs(NamedTuple):
    """Mask logits and masks of a batch.

    Attributes:
        logits: (L, B, Q, h, w), or a list of L tensors (B, Q, h, w), with their gradient.
        layers: The same, L tensors (B, Q, h, w), without gradient.
        masks: (G, H, W) of each image; bool, integer 0 and 1, or floating in [0, 1].
        ignored: For each image what is ignored, or None.
    """

    logits: MaskLogits
    layers: list[Tensor]
    masks: Sequence[Tensor]
    ignored: list[Ignored | None]

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the losses: float32, or float64 for float64."""
        return full_dtype(self.layers[0])

    @property
    def device(self) -> torch.device:
        """Device of the logits."""
        return self.layers[0].device

    @property
    def size(self) -> torch.Size:
        """Height h and width w of the logits."""
        return self.layers[0].shape[-2:]

    def of_image(self, image: int, layers: slice) -> Tensor:
        """Returns an image's logits of some layers, (l, Q, h, w), without gradient; a view where it can be one."""
        if isinstance(self.logits, Tensor):
            return self.logits.detach()[layers, image]
        some = [layer[image] for layer in self.layers[layers]]
        return some[0].unsqueeze(0) if len(some) == 1 else torch.stack(some)

    def pair_maps(self, block: PairBlock, query: Tensor) -> Tensor:
        """Returns a copy of the logits of a block of pairs, (m, h, w), in the losses' precision; ignored ones are 0.

        Args:
            block: The pairs.
            query: Query of every pair, int64 (M,).
        """
        query = query[block.places]
        if isinstance(block.places, slice):  # all of one layer
            maps = self.layers[block.layers[0]][block.image, query]
        else:
            rows = zip(block.layers, query.tolist(), strict=True)
            maps = torch.stack([self.layers[layer][block.image, row] for layer, row in rows])
        maps, ignored = full_precision(maps), self.ignored[block.image]
        return maps if ignored is None else ignored.clear(maps)


def mask_inputs(
    mask_logits: MaskLogits,
    masks: Sequence[Tensor],
    valid: Sequence[Tensor | None] | None,
    reads: DeferredReads,
) -> MaskInputs:
    """Checks mask logits and masks, and finds what is ignored.

    Args:
        mask_logits: (L, B, Q, h, w), or a list of L tensors (B, Q, h, w).
        masks: (G, H, W) of each image; bool, integer 0 and 1, or floating in [0, 1].
        valid: For each image bool (H, W), False for ignored pixels, or None; None: no pixel is ignored.
        reads: Queue for the outcome of the check of values.

    Raises:
        ValueError: Shapes do not fit, or masks hold other values (on CUDA at one of the next calls).
        TypeError: Logits that are not floating, or masks that are no tensors.
    """
    layers = check_mask_logits(mask_logits)
    check_masks(masks, layers[0].shape[0])
    check_mask_values(masks, reads)
    check_valid(valid, masks)
    return MaskInputs(mask_logits, layers, masks, find_ignored(valid, len(masks), layers[0].shape[-2:]))
