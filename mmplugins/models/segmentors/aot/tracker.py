"""Tracks the objects of a video under the numbers that they have in its files.

Released code of AOT: ``squeeze_idx`` of dataloaders/eval_datasets.py and utils/image.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .augmentation import AugmentedEngine
from .engine import VideoEngine

IGNORED = 255


class Tracker:
    """Tracks the objects of one video, whatever their numbers.

    Objects get the identities 1, 2, ... in the order in which they are given, those of one mask by their numbers. So
    gaps in the numbers need no identities, and no number is predicted that was not given before.

    Args:
        engine: Of the video, before its first frame.
    """

    def __init__(self, engine: VideoEngine | AugmentedEngine) -> None:
        self.engine = engine
        self._numbers = [0]  # of the background and of each identity
        self._table = torch.zeros(1, dtype=torch.uint8)  # the same, on the masks' device

    @property
    def frame(self) -> int:
        """Index of the current frame, from 0; -1 before the first."""
        return self.engine.frame

    @torch.no_grad()
    def track(self, image: Tensor, given: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Takes in the next frame.

        Args:
            image: Normalised, shape (1, 3, H, W).
            given: Object of each pixel, integer, shape (1, h, w) of any size: 0 background, 1 to 254 objects, 255
                ignored. On the first frame it must be there; later it holds new objects, which win, and 0 elsewhere.
            size: Height and width of the result.

        Returns:
            Object of each pixel, uint8, shape (1, *size).

        Raises:
            ValueError: The first mask has no object, or numbers are out of range.
        """
        if given is not None:
            given = F.interpolate(self._identities(given)[None].float(), size, mode='nearest')[0].long()
        count = len(self._numbers) - 1
        if self.frame < 0:
            self.engine.add_reference(image, given, count)
            mask = torch.where(given == IGNORED, 0, given)
        else:
            mask = self.engine.propagate(image, size).argmax(1)
            if given is None:
                self.engine.remember(mask)
            else:
                mask = torch.where((given > 0) & (given != IGNORED), given, mask)
                self.engine.add_reference(None, mask, count)
        return self._table[mask]

    def _identities(self, given: Tensor) -> Tensor:
        """Replaces the numbers in a mask by identities, new ones for new objects; 0 and 255 stay."""
        found = given.unique().tolist()
        if found[0] < 0 or found[-1] > IGNORED:
            raise ValueError(
                f'a mask holds 0 for background, 1 to {IGNORED - 1} for objects and {IGNORED}, got values from '
                f'{found[0]} to {found[-1]}'
            )
        self._numbers += [number for number in found if number not in (*self._numbers, IGNORED)]
        self._table = torch.tensor(self._numbers, dtype=torch.uint8, device=given.device)
        identities = torch.zeros(IGNORED + 1, dtype=torch.long)
        identities[self._numbers] = torch.arange(len(self._numbers))
        identities[IGNORED] = IGNORED
        return identities.to(given.device)[given.long()]
