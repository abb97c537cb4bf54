"""Masks to identity embeddings: each object of a frame is given one of a bank of learned identities.

Paper: AOT (NeurIPS 2021), section 3.1, identification embedding. Released code: ``patch_wise_id_bank`` of
networks/models/aot.py, ``one_hot_mask`` of utils/image.py, ``generate_permute_matrix`` of utils/math.py.

Deliberate difference: a shuffle of the identities is a table of slots, not a permutation matrix.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class IdentityBank(nn.Module):
    """A convolution over one-hot masks, whose kernel holds the identities patch by patch.

    Args:
        max_objects: Number of identities beside the background.
        channels: Channels of the embedding.
        align_corners: Whether inputs have sizes 16 k + 1 (kernel 17, padding 8) or 16 k (kernel 16).
    """

    def __init__(self, max_objects: int, channels: int, align_corners: bool) -> None:
        super().__init__()
        self.max_objects = max_objects
        kernel = 17 if align_corners else 16
        self.conv = nn.Conv2d(max_objects + 1, channels, kernel, stride=16, padding=8 if align_corners else 0)
        nn.init.orthogonal_(self.conv.weight.view(channels, -1), gain=kernel**-2)

    def forward(self, slots: Tensor, num_objects: int | None = None) -> Tensor:
        """Embeds masks.

        Args:
            slots: Identity of each pixel, shape (N, H, W), any dtype: 0 background, 1 to ``max_objects``; pixels with
                any other value have none.
            num_objects: Largest identity that may be there; the others' share of the kernel is left out. None: all.

        Returns:
            Embedding at stride 16, shape (N, h * w, channels).
        """
        weight = self.conv.weight[:, : 1 + (self.max_objects if num_objects is None else num_objects)]
        identities = torch.arange(weight.shape[1], device=slots.device, dtype=slots.dtype)
        one_hot = slots[:, None] == identities[:, None, None]  # (N, 1 + num_objects, H, W)
        conv = self.conv
        return F.conv2d(one_hot.to(weight.dtype), weight, conv.bias, conv.stride, conv.padding).flatten(2).mT


def shuffled_slots(num_samples: int, max_objects: int, device: torch.device | str) -> Tensor:
    """Draws which identity each object of each sample gets: (N, max_objects + 1) int64; the background stays at 0."""
    order = torch.rand(num_samples, max_objects, device=device).argsort(1) + 1
    return torch.cat([torch.zeros_like(order[:, :1]), order], 1)


def to_slots(mask: Tensor, slots: Tensor) -> Tensor:
    """Replaces objects by their identities.

    Args:
        mask: Object of each pixel, integer, shape (N, H, W); what is above ``max_objects`` (255: ignored) stays.
        slots: Identity of each object, int64, shape (N, max_objects + 1).

    Returns:
        int64, shape (N, H, W).
    """
    mask = mask.long()
    known = mask < slots.shape[1]
    identities = slots.gather(1, torch.where(known, mask, 0).flatten(1)).view_as(mask)
    return torch.where(known, identities, mask)


def from_slots(logits: Tensor, slots: Tensor) -> Tensor:
    """Orders logits (N, max_objects + 1, h, w) of identities by object instead; see ``to_slots``."""
    return logits.gather(1, slots[:, :, None, None].expand_as(logits))
