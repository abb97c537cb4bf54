"""What has to do with the device that tensors lie on, and with their precision.

- ``cpu_kernels`` is the one switch between the CPU's own kernels and the plain path, which is what a GPU runs;
  ``at_once`` is how many things each of them works on together. ``triton_serves`` says where the plain path has
  kernels of its own for GPUs.
- ``full_precision`` is the rule that all losses and costs compute in float32, float64 for float64.
- ``upload`` copies from the host without waiting. ``DeferredReads`` is the way back: a check or a log that needs a
  number from the device would stall the device's queue at every step, so the number is copied to pinned memory behind
  the work already queued, and its reader runs at a later call, when it has arrived. On the CPU it runs at once.
- ``empty_buffer`` and ``zeros_buffer`` make large tensors on the CPU whose memory comes in large pieces. The system
  hands out fresh memory page by page, and clears each page when it is first written; for a tensor of tens of megabytes
  that takes longer than what is computed into it. NumPy asks for large pages where there are such, and for memory that
  is cleared already, so that zeros which are never written cost nothing.
"""

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import numpy as np
import torch
from torch import Tensor

Reader = Callable[[Tensor], None]
_INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
_TRITON_WANTED = os.environ.get('MMPLUGINS_TRITON') == '1'  # asked for, as the kernels have not yet run on a GPU
_TRITON_SINCE = (3, 7)  # the oldest version on which the kernels were compared with what they stand for
_LARGE = 1 << 22  # bytes from which on NumPy asks for large pages


class _Switch:
    plain, triton = False, True


def cpu_kernels(x: Tensor | torch.device) -> bool:
    """Whether the CPU's own kernels serve a tensor or device; else the plain path does, on every device."""
    device = x.device if isinstance(x, Tensor) else x
    return device.type == 'cpu' and not _Switch.plain


def at_once(x: Tensor | torch.device, on_cpu: int, elsewhere: int) -> int:
    """Returns how many things are worked on together: few on the CPU, so that they stay in its cache; at least 1."""
    return max(1, on_cpu if cpu_kernels(x) else elsewhere)


@contextmanager
def plain_path() -> Iterator[None]:
    """Takes the plain path on the CPU too, so that tests execute there what a GPU will execute."""
    before, _Switch.plain = _Switch.plain, True
    try:
        yield
    finally:
        _Switch.plain = before


def triton_serves(x: Tensor) -> bool:
    """Whether Triton kernels take a tensor: on CUDA where the environment says ``MMPLUGINS_TRITON=1`` at import.

    PyTorch's builds for CUDA bring Triton; without it, the plain path serves. On the CPU they run inside
    ``plain_path``, slowly, on Triton's interpreter: where the environment says ``TRITON_INTERPRET=1`` before anything
    imports Triton.
    """
    if x.is_cuda:
        return _Switch.triton and _TRITON_WANTED and _has_triton()
    return _Switch.triton and _INTERPRETED and x.device.type == 'cpu' and _Switch.plain and _has_triton()


@contextmanager
def without_triton() -> Iterator[None]:
    """Takes the plain path without kernels of its own for GPUs, in PyTorch alone."""
    before, _Switch.triton = _Switch.triton, False
    try:
        yield
    finally:
        _Switch.triton = before


@cache
def _has_triton() -> bool:
    try:
        import triton
    except ImportError:
        return False
    return tuple(int(part) for part in triton.__version__.split('.')[:2]) >= _TRITON_SINCE


def on_device_of(x: Tensor) -> AbstractContextManager:
    """Returns a context in which CUDA's current device is a tensor's; it does nothing for tensors elsewhere."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def full_dtype(x: Tensor) -> torch.dtype:
    """Returns the precision in which losses compute with a tensor: float64 for float64, float32 for anything else."""
    return torch.promote_types(x.dtype, torch.float32)


def full_precision(x: Tensor) -> Tensor:
    """Brings a tensor to the precision in which losses compute with it."""
    return x.to(full_dtype(x))


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Returns a context in which autocast is off on a device; 'meta', which has no autocast, is left alone."""
    return nullcontext() if device.type == 'meta' else torch.autocast(device.type, enabled=False)


def upload(values: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor of the host to a device; to CUDA from pinned memory, so that nothing waits.

    Args:
        values: Any tensor on the CPU; one that is on another device already is copied without pinning.
        device: Where it goes; a tensor that is there already is returned itself.
    """
    if device.type == 'cuda' and values.device.type == 'cpu':
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


class DeferredReads:
    """A queue of numbers on their way to the host.

    Args:
        max_pending: How many may be under way; above it the oldest is waited for, so that nothing piles up.
    """

    def __init__(self, max_pending: int = 64) -> None:
        self.max_pending = max_pending
        self._pending: deque = deque()

    def push(self, value: Tensor, reader: Reader) -> bool:
        """Hands a small tensor to a reader, at once on the CPU, else at a later ``poll``.

        Args:
            value: Tensor on any device; detached.
            reader: Called with the tensor on the CPU. What it raises comes out of ``push`` or ``poll``.

        Returns:
            Whether the reader has run already.
        """
        value = value.detach()
        if value.device.type != 'cuda':
            reader(value.cpu())
            return True
        host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        host.copy_(value, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(value.device))
        self._pending.append((arrived, host, reader))
        return False

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


def keep_freed_memory() -> bool:
    """Has the C library keep what is freed for what is allocated next, instead of handing it back to the system.

    Maps of tens of megabytes that come and go with every frame are else fetched anew each time, page by page, which can
    take a fifth of the time. It holds for the whole process, which then stays as large as it once was: for tools.

    Returns:
        Whether it could be done: with glibc only.
    """
    m_trim_threshold, m_mmap_max = -1, -4
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018, the other libraries' mallopt does nothing, or something else
        return bool(library.mallopt(m_mmap_max, 0) and library.mallopt(m_trim_threshold, 2**31 - 1))
    except (AttributeError, OSError, TypeError):
        return False


def empty_buffer(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Makes a tensor with arbitrary values, of a shape, dtype and device."""
    return _make(np.empty, torch.empty, shape, dtype, device)


def zeros_buffer(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Makes a tensor of zeros, of a shape, dtype and device."""
    return _make(np.zeros, torch.zeros, shape, dtype, device)


def _make(ours, theirs, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    shape = torch.Size(shape)
    if torch.device(device).type != 'cpu' or shape.numel() * dtype.itemsize < _LARGE:
        return theirs(shape, dtype=dtype, device=device)
    return torch.from_numpy(ours(shape.numel() * dtype.itemsize, dtype='uint8')).view(dtype).view(shape)
