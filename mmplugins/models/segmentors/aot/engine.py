"""The state of one video: memories of all groups of objects, frame by frame.

Paper: AOT (NeurIPS 2021), and its released code: ``AOTInferEngine`` of networks/engines/aot_engine.py, and for objects
that appear later networks/managers/evaluator.py.

Deliberate differences: there are no logits of identities that no object has; a mask may be of any size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.device import full_precision

from .encoder import ImageFeatures
from .fusion import inference_network
from .memory import FrameMemory, KeyValue
from .network import AOTNetwork


class VideoEngine:
    """Tracks the objects of one video from given masks; frames come one by one, in order.

    More objects than the network has identities are split into groups, which share the image features: group g has the
    objects ``max_objects * g + 1`` to ``max_objects * (g + 1)``, numbered from 1, and everything else is background
    to it.

    A frame is handled in two calls: ``propagate`` returns its logits, and ``remember`` takes the mask that was made
    of them. A frame whose mask is given, the first one or one where objects appear, takes ``add_reference`` instead of
    ``remember``. Memory grows with the frames kept in the long-term memory and with nothing else.

    Args:
        network: The network, in evaluation mode.
        gap: Frames between those that join the long-term memory; None: only given masks do.
        max_stored: Most frames in the long-term memory beside those with given masks; None: no bound.
        fast: Whether a copy of the network that is made for inference does the work, see ``inference_network``: the
            same results up to rounding, with the weights of now.

    Attributes:
        num_objects: Objects so far, in all groups.
        frame: Index of the current frame, from 0; -1 before the first.

    Examples:
        >>> def track(network, frames, mask):
        ...     engine = VideoEngine(network)
        ...     engine.add_reference(frames[0], mask)
        ...     for frame in frames[1:]:
        ...         mask = engine.propagate(frame).argmax(1)
        ...         engine.remember(mask)
        ...         yield mask
    """

    def __init__(
        self, network: AOTNetwork, gap: int | None = None, max_stored: int | None = None, fast: bool = True
    ) -> None:
        self.network = inference_network(network) if fast else network
        self.gap = gap
        self.max_stored = max_stored
        self.num_objects = 0
        self.frame = -1
        self._memories: list[FrameMemory] = []
        self._features: ImageFeatures | None = None
        self._size: tuple[int, int] = (0, 0)
        self._pending: list[list[KeyValue]] | None = None

    @torch.no_grad()
    def add_reference(self, image: Tensor | None, mask: Tensor, num_objects: int | None = None) -> None:
        """Takes in a frame whose mask is given.

        Args:
            image: Normalised, shape (1, 3, H, W), if this is a new frame; None if ``propagate`` has had it.
            mask: Object of each pixel, integer, shape (1, h, w) of any size: 0 background, then 1, 2 and so on; 255
                has no identity. Objects that were there before must be in it too, where they are to be seen.
            num_objects: Objects in all of the video so far; None takes the largest in a mask up to now.

        Raises:
            ValueError: The mask has no object, or fewer objects are given than there were.
            RuntimeError: There is neither an image nor a frame that was propagated.
        """
        if num_objects is None:
            num_objects = max(self.num_objects, _count_objects(mask))
        if num_objects < max(1, self.num_objects):
            raise ValueError(
                f'a reference needs at least one object, and no fewer than there were ({self.num_objects}), got '
                f'{num_objects}; give the mask of the objects, 0 where there is none'
            )
        if image is not None:
            self._encode(image)
        elif self._features is None:
            raise RuntimeError('add_reference without an image is for a frame that propagate has had; pass the image')
        self.num_objects = num_objects
        for group, slots in enumerate(self._slots(mask)):
            if group == len(self._memories):
                self._memories.append(FrameMemory(self.gap, self.max_stored))
            entries = self.network.reference(self._features, slots, num_objects=self._objects_of(group))[1]
            self._memories[group].add_reference(entries, self.frame)
        self._pending = None

    @torch.no_grad()
    def propagate(self, image: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Computes the logits of the next frame.

        Args:
            image: Normalised, shape (1, 3, H, W).
            size: Height and width of the logits; None: those of the image.

        Returns:
            Logits of background and objects, shape (1, num_objects + 1, *size); their softmax is the probability.

        Raises:
            RuntimeError: No mask was given yet, or ``remember`` was not called for the frame before.
        """
        if not self._memories:
            raise RuntimeError('the first frame of a video needs a mask; call add_reference with it')
        if self._pending is not None:
            raise RuntimeError(f'frame {self.frame} was propagated but has no mask; call remember or add_reference')
        self._encode(image)
        self._pending, logits = [], []
        for group, memory in enumerate(self._memories):
            outputs, frames = self.network.propagate(self._features, memory)
            self._pending.append(frames)
            used = self.network.decode(self._features, outputs)[:, : 1 + self._objects_of(group)]
            logits.append(self.network.resize(used, size or self._size))
        return merge_groups(logits)

    @torch.no_grad()
    def remember(self, mask: Tensor) -> None:
        """Takes in the mask of the frame that was propagated last; see ``add_reference`` for the mask.

        Raises:
            RuntimeError: No frame is waiting for a mask.
        """
        if self._pending is None:
            raise RuntimeError('no frame is waiting for a mask; call propagate first')
        groups = zip(self._memories, self._pending, self._slots(mask), strict=True)
        for group, (memory, frames, slots) in enumerate(groups):
            memory.update(self.network.fuse(frames, slots, num_objects=self._objects_of(group)), self.frame)
        self._pending = None

    def _encode(self, image: Tensor) -> None:
        self._features = self.network.encode(image)
        self._size = tuple(image.shape[2:])
        self.frame += 1

    def _objects_of(self, group: int) -> int:
        return min(self.network.max_objects, self.num_objects - group * self.network.max_objects)

    def _slots(self, mask: Tensor) -> list[Tensor]:
        """Resizes a mask to the image and splits it into the groups' own numbers, each (1, H, W)."""
        if mask.dim() != 3 or len(mask) != 1:
            raise ValueError(f'a mask has shape (1, height, width), got {tuple(mask.shape)}')
        mask = F.interpolate(mask[None].float(), self._size, mode='nearest')[0]
        most = self.network.max_objects
        if self.num_objects <= most:
            return [mask]
        groups = range(-(-self.num_objects // most))
        return [torch.where((mask > g * most) & (mask <= (g + 1) * most), mask - g * most, 0) for g in groups]


def merge_groups(logits: Sequence[Tensor]) -> Tensor:
    """Merges the logits of several groups of objects by soft aggregation.

    1. Each group has its own softmax.
    2. The background's probability is the product of the groups' backgrounds.
    3. The merged probabilities are clamped to [1e-5, 1 - 1e-5]; their logits are the merged logits.

    Args:
        logits: Of background and objects of each group, (N, 1 + objects, H, W). One group is returned as it is.

    Returns:
        Logits of the background and of all objects, (N, 1 + all objects, H, W).
    """
    if len(logits) == 1:
        return logits[0]
    probabilities = [full_precision(x).softmax(1) for x in logits]
    background = torch.stack([x[:, :1] for x in probabilities]).prod(0)
    merged = torch.cat([background, *(x[:, 1:] for x in probabilities)], 1)
    return merged.clamp(1e-5, 1 - 1e-5).logit()


def _count_objects(mask: Tensor) -> int:
    """Returns the largest object number of a mask; 255 is none."""
    return int(torch.where(mask == 255, 0, mask).max()) if mask.numel() else 0
