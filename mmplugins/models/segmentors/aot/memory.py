"""What is kept of past frames: the newest one (short term), and the reference and some others (long term).

Paper: AOT (NeurIPS 2021), section 3.2. Released code: ``update_short_term_memory`` and ``update_long_term_memory`` of
networks/engines/aot_engine.py.

Deliberate difference: a bound drops the oldest frame beside the references.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class KeyValue(NamedTuple):
    """What one block keeps of S positions.

    Attributes:
        key: Shape (N, S, C).
        value: Shape (N, S, C), with the identities in it.
    """

    key: Tensor
    value: Tensor

    def joined(self, other: 'KeyValue') -> 'KeyValue':
        """Returns these positions and then the others."""
        return KeyValue(torch.cat([self.key, other.key], 1), torch.cat([self.value, other.value], 1))

    def without(self, start: int, stop: int) -> 'KeyValue':
        """Returns these positions but for ``start`` to ``stop``."""
        return KeyValue(*(torch.cat([x[:, :start], x[:, stop:]], 1) for x in self))


class FrameMemory:
    """Long-term and short-term memory of all blocks, for frames that come in order.

    1. A reference frame, whose mask is given, replaces the short-term memory and joins the long-term memory for good.
    2. Any other frame replaces the short-term memory; it joins the long-term memory if ``gap`` frames have passed since
       the last one that did.
    3. Above ``max_stored`` such frames, the oldest is dropped.

    Args:
        gap: Frames between those that join the long-term memory; None: only references do.
        max_stored: Most frames in the long-term memory beside the references; None: no bound.

    Attributes:
        long_term: An entry of each block, (N, frames * h * w, C); None before the first reference.
        short_term: An entry of each block, (N, h * w, C); None before the first reference.
        num_frames: Frames in the long-term memory.
    """

    def __init__(self, gap: int | None = None, max_stored: int | None = None) -> None:
        if gap is not None and gap < 1:
            raise ValueError(f'gap is a number of frames, at least 1, or None for never, got {gap}')
        if max_stored is not None and max_stored < 1:
            raise ValueError(f'max_stored is a number of frames, at least 1, or None for no bound, got {max_stored}')
        self.gap = gap
        self.max_stored = max_stored
        self.long_term: list[KeyValue] | None = None
        self.short_term: list[KeyValue] | None = None
        self._is_reference: list[bool] = []
        self._last_stored = 0

    @property
    def num_frames(self) -> int:
        """Frames in the long-term memory."""
        return len(self._is_reference)

    def add_reference(self, entries: Sequence[KeyValue], frame: int) -> None:
        """Takes in a frame whose mask is given (step 1).

        Args:
            entries: An entry of each block, each (N, h * w, C).
            frame: Index of the frame in its video.
        """
        self.short_term = list(entries)
        self._store(entries, frame, True)

    def update(self, entries: Sequence[KeyValue], frame: int) -> None:
        """Takes in another frame (steps 2 and 3); see ``add_reference``.

        Raises:
            RuntimeError: There has been no reference yet.
        """
        if self.long_term is None:
            raise RuntimeError('the memory is empty; the first frame must be a reference, with a mask')
        self.short_term = list(entries)
        if self.gap is None or frame - self._last_stored < self.gap:
            return
        self._store(entries, frame, False)
        if self.max_stored is not None and self._is_reference.count(False) > self.max_stored:
            oldest, length = self._is_reference.index(False), entries[0].key.shape[1]
            self._is_reference.pop(oldest)
            self.long_term = [x.without(oldest * length, (oldest + 1) * length) for x in self.long_term]

    def _store(self, entries: Sequence[KeyValue], frame: int, is_reference: bool) -> None:
        if self.long_term is None:
            self.long_term = list(entries)
        else:
            self.long_term = [old.joined(new) for old, new in zip(self.long_term, entries, strict=True)]
        self._is_reference.append(is_reference)
        self._last_stored = frame
