"""Host reads that do not wait for the device.

A check or a log that needs a number from the device would stall the device's queue at every step. Here the number
is copied to pinned memory behind the work already queued, and its reader runs at a later call, when it has arrived.
On the CPU the reader runs at once.
"""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

Reader = Callable[[Tensor], None]


class DeferredReads:
    """A queue of numbers on their way to the host.

    Args:
        max_pending: How many may be under way; above it the oldest is waited for, so that nothing piles up.
    """

    def __init__(self, max_pending: int = 64) -> None:
        self.max_pending = max_pending
        self._pending: deque = deque()

    def push(self, value: Tensor, reader: Reader) -> None:
        """Hands a small tensor to a reader, at once on the CPU, else at a later ``poll``.

        Args:
            value: Tensor on any device; detached.
            reader: Called with the tensor on the CPU. What it raises comes out of ``push`` or ``poll``.
        """
        value = value.detach()
        if value.device.type != 'cuda':
            reader(value.cpu())
            return
        host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        host.copy_(value, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(value.device))
        self._pending.append((arrived, host, reader))

    def poll(self) -> None:
        """Runs the readers of all numbers that have arrived, in their order."""
        while self._pending:
            arrived, host, reader = self._pending[0]
            if len(self._pending) > self.max_pending:
                arrived.synchronize()
            elif not arrived.query():
                return
            self._pending.popleft()
            reader(host)

    def flush(self) -> None:
        """Waits for all numbers under way and runs their readers."""
        while self._pending:
            arrived, host, reader = self._pending.popleft()
            arrived.synchronize()
            reader(host)

    def __len__(self) -> int:
        return len(self._pending)

    def __deepcopy__(self, memo: dict) -> 'DeferredReads':  # a copied model (EMA) waits for nothing
        return DeferredReads(self.max_pending)

    def __getstate__(self) -> dict:
        return {'max_pending': self.max_pending, '_pending': deque()}
