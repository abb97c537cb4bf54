"""Peak of the memory that a function takes beyond what was there before it.

CUDA: the allocator's own peak, ``torch.cuda.max_memory_allocated``, over the level at the start. What a contender
takes on the host is not in it.

CPU: the peak of the resident set is no measure of small amounts, because freed pages stay with the process and come
back without a trace. Instead every allocation and release is summed up, in a run of its own that is not timed:

1. torch's profiler reports each request to torch's CPU allocator and each release, in order, temporaries inside of
   operators included.
2. NumPy reports its arrays to ``tracemalloc``, which also counts Python's own objects, but keeps only a peak and no
   history.
3. To join the two, each Python call and return reads and resets the peak of ``tracemalloc`` and makes torch allocate
   a buffer of a tell-tale size. These marks cut torch's record into the same intervals, and the peak is the largest
   sum of the two peaks of an interval. It is exact where an interval, which is less than one call, uses torch or
   NumPy but not both, and an upper bound elsewhere (a backward pass that releases an array, for one).

Not seen: what C++ code takes from malloc by itself, such as the queue of ``torch.topk`` on the CPU (16 bytes a
candidate and thread), what the workers of a parallel loop allocate for themselves, and, to a contender's harm, the
release of what was there before the start. Checked on the first cases at typical size against the peak resident set
of a process whose malloc gives pages back at once (``MALLOC_MMAP_THRESHOLD_=65536``): within 1 %, but for topk's
queue (9 % of its forward peak) and two backward passes of the released formulas (4 %).
"""

import gc
import sys
import tracemalloc
from array import array
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

MARK = 7919  # bytes; an odd size that no contender asks for


def peak_extra_memory(run: Callable[[], Any], device: torch.device) -> int:
    """Measures the peak of additional memory while a function runs; what it returns counts.

    Args:
        run: The function; called once.
        device: Where its tensors are.

    Returns:
        The peak in bytes.
    """
    gc.collect()
    if device.type != 'cuda':
        return _peak_on_cpu(run)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = run()  # kept alive up to the reading
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) - before
    del result
    return peak


def _peak_on_cpu(run: Callable[[], Any]) -> int:
    python_peaks = array('q')  # bytes; does not allocate an object an entry

    def mark(*_) -> None:
        python_peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()
        torch.empty(MARK, dtype=torch.uint8, device='cpu')

    watcher = sys.getprofile()
    tracemalloc.start()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            before, _ = tracemalloc.get_traced_memory()
            sys.setprofile(mark)
            try:
                result = run()  # kept alive up to the last mark
            finally:
                sys.setprofile(watcher)
            mark()
            del result
    finally:
        tracemalloc.stop()

    events = sorted(
        (event for event in record.profiler.kineto_results.events() if event.name() == '[memory]'),
        key=lambda event: event.start_ns(),
    )
    torch_peaks = _peaks_between_marks(event.nbytes() for event in events if event.device_type() == DeviceType.CPU)
    if len(torch_peaks) != len(python_peaks):
        raise RuntimeError(
            f'torch reported {len(torch_peaks)} of {len(python_peaks)} marks, so its record of memory has holes; '
            'is another profiler running?'
        )
    return max(ours + python - before for ours, python in zip(torch_peaks, python_peaks, strict=True))


def _peaks_between_marks(requests: Iterable[int]) -> list[int]:
    """Peak level of each interval, from the sizes of requests (positive) and releases (negative), in bytes."""
    peaks, level, peak = [], 0, 0
    for size in requests:
        if size == MARK:
            peaks.append(peak)
            peak = level
        elif size != -MARK:
            level += size
            peak = max(peak, level)
    return peaks
