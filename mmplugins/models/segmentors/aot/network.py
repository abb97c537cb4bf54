"""AOT's network: encoder, identity bank, transformer and decoder, without a state.

Paper: AOT (NeurIPS 2021), figure 2. Released code: networks/models/aot.py.

What past frames left behind comes in as an argument (``FrameMemory``) and goes out as a result; ``engine`` keeps it for
a video, ``training`` for a batch of sequences.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmplugins.models.layers.fpn_decoder import FPNDecoder

from .encoder import ImageEncoder, ImageFeatures
from .identity import IdentityBank
from .lstt import LSTT
from .memory import FrameMemory, KeyValue


class AOTNetwork(BaseModule):
    """Encodes images, propagates identities from memories to them, and decodes these to logits.

    As mmengine's BaseModule it hands ``init_weights`` on to the encoder's backbone, whose ``init_cfg`` names the
    weights that it starts from.

    Args:
        backbone: Module with outputs of strides 4, 8 and 16, and possibly a fourth of stride 16.
        in_channels: Channels of strides 4, 8 and 16, and of the deepest level.
        channels: Channels of the embedding.
        max_objects: Number of identities beside the background.
        align_corners: Whether images have sizes 16 k + 1, corners aligned in every resizing, or 16 k.
        **lstt: Arguments of ``LSTT``: ``num_blocks`` and others.

    Raises:
        ValueError: ``in_channels`` are not four.
    """

    def __init__(
        self,
        backbone: nn.Module,
        in_channels: Sequence[int],
        channels: int = 256,
        max_objects: int = 10,
        align_corners: bool = True,
        **lstt,
    ) -> None:
        super().__init__()
        if len(in_channels) != 4:
            raise ValueError(
                'in_channels are those of strides 4, 8 and 16 and of the deepest level, which may be the third again, '
                f'hence four; got {tuple(in_channels)}'
            )
        self.max_objects = max_objects
        self.align_corners = align_corners
        self.encoder = ImageEncoder(backbone, in_channels[3], channels)
        self.identity_bank = IdentityBank(max_objects, channels, align_corners)
        self.lstt = LSTT(channels=channels, **lstt)
        self.decoder = FPNDecoder(
            (1 + len(self.lstt.blocks)) * channels, in_channels[:3], channels, max_objects + 1, align_corners
        )

    def encode(self, images: Tensor) -> ImageFeatures:
        """Encodes normalised images (N, 3, H, W).

        Raises:
            ValueError: The size is not one that the network takes.
        """
        size = tuple(images.shape[2:])
        if size != self.fitting_size(size):
            kind = '16 k + 1' if self.align_corners else '16 k'
            raise ValueError(
                f'AOT takes images whose height and width are {kind}, got {size[0]}x{size[1]}; resize or pad them to '
                '{}x{}'.format(*self.fitting_size(size))
            )
        return self.encoder(images)

    def fitting_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Returns the size (height, width) nearest to another one that the network takes."""
        more = 1 if self.align_corners else 0
        height, width = (max(1, round((length - more) / 16)) * 16 + more for length in size)
        return height, width

    def reference(
        self,
        features: ImageFeatures,
        slots: Tensor,
        freeze_identities: bool = False,
        num_objects: int | None = None,
    ) -> tuple[list[Tensor], list[KeyValue]]:
        """Reads a frame whose mask is given.

        Args:
            features: What ``encode`` returned for it.
            slots: Identity of each pixel, shape (N, H, W); see ``IdentityBank``.
            freeze_identities: Whether no gradient flows to the identity bank.
            num_objects: Largest identity that may be there; None: any.

        Returns:
            What ``decode`` takes, and what ``FrameMemory.add_reference`` takes.
        """
        return self.lstt.reference(features.embedding, self._identify(slots, freeze_identities, num_objects))

    def propagate(self, features: ImageFeatures, memory: FrameMemory) -> tuple[list[Tensor], list[KeyValue]]:
        """Reads a frame by the memories.

        Args:
            features: What ``encode`` returned for it.
            memory: Memories of the frames before; not changed.

        Returns:
            What ``decode`` takes, and what ``fuse`` takes.
        """
        return self.lstt.propagate(features.embedding, memory.long_term, memory.short_term)

    def fuse(
        self,
        frames: Sequence[KeyValue],
        slots: Tensor,
        freeze_identities: bool = False,
        num_objects: int | None = None,
    ) -> list[KeyValue]:
        """Adds the identities of a mask to what ``propagate`` returned.

        Args:
            frames: Keys and contents of the frame, of each block.
            slots: Identity of each pixel, shape (N, H, W).
            freeze_identities: Whether no gradient flows to the identity bank.
            num_objects: Largest identity that may be there; None: any.

        Returns:
            What ``FrameMemory.update`` takes.
        """
        return self.lstt.fuse(frames, self._identify(slots, freeze_identities, num_objects))

    def decode(self, features: ImageFeatures, outputs: Sequence[Tensor]) -> Tensor:
        """Decodes the transformer's outputs to logits of all identities, (N, max_objects + 1, h, w) at stride 4."""
        return self.decoder([features.embedding, *outputs], features.shortcuts)

    def resize(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Resizes logits (N, C, h, w) to a size (height, width)."""
        return F.interpolate(logits, tuple(size), mode='bilinear', align_corners=self.align_corners)

    def _identify(self, slots: Tensor, freeze: bool, num_objects: int | None) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not freeze):
            return self.identity_bank(slots, num_objects)
