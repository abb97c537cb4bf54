"""Runs one case: values first, then memory, then time, the contenders interleaved in one process."""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._case import OURS, Case, Contender, Run
from ._memory import peak_extra_memory

FORWARD, BACKWARD, BOTH = 'forward', 'backward', 'forward+backward'
LEAST_ROUNDS, MOST_ROUNDS = 7, 100  # where a time budget decides

Samples = dict[str, dict[str, list[float]]]


def measure(
    case: Case,
    size: str,
    device: torch.device,
    rounds: int | None = None,
    seconds: float = 10.0,
    on_progress: Callable[[float], None] = lambda done: None,
) -> dict:
    """Measures one case at one size on one device.

    1. Build the contenders that can run here, on shared inputs.
    2. Warm up: run each once and compare values and gradients with ours.
    3. Measure the peak of additional memory, in runs that are not timed.
    4. Time them in turns; the order moves on by one each round.

    Args:
        case: The case.
        size: One of ``SIZES``.
        device: Where the tensors are.
        rounds: Number of rounds; None takes ``LEAST_ROUNDS`` to ``MOST_ROUNDS``, as many as fit in ``seconds``.
        seconds: Budget of step 4, above 0.
        on_progress: Called with the share that is done, 0 to 1.

    Returns:
        What goes into the JSON file; ``skipped`` says why if our own contender cannot run.
    """
    report = {
        'case': case.name,
        'description': case.description,
        'device': device.type,
        'size': size,
        'arguments': case.sizes[size],
        'skipped': None,
        'rounds': 0,
        'gradient_bytes': 0,
        'contenders': [],
    }
    inputs = case.make_inputs(device, **case.sizes[size])
    leaves = [tensor for tensor in tensors_in(inputs) if tensor.requires_grad]
    report['gradient_bytes'] = sum(leaf.numel() * leaf.element_size() for leaf in leaves)
    runs, reasons = _build(case, inputs)  # step 1
    differences = _warm_up(case, runs, reasons, leaves) if OURS in runs else {}  # step 2
    if OURS not in runs:
        report['skipped'] = reasons[OURS]
        return report
    memory = {name: _memory(run, leaves, device) for name, run in runs.items()}  # step 3
    samples = time_rounds(runs, leaves, device, rounds, seconds, on_progress)  # step 4

    report['rounds'] = len(samples[OURS][FORWARD])
    for name, contender in case.contenders.items():
        entry = {'name': name, 'skipped': reasons.get(name)}
        if name in runs:
            entry['seconds'] = {phase: spread(values) for phase, values in samples[name].items()}
            entry['ratio'] = {phase: ratio(values, samples[OURS][phase]) for phase, values in samples[name].items()}
            entry['memory_bytes'] = memory[name]
            entry['memory_ratio'] = {
                phase: peak / memory[OURS][phase] if memory[OURS][phase] else None
                for phase, peak in memory[name].items()
            }
            entry['samples'] = samples[name]
        if name in differences:
            entry['difference'] = _judge(contender, differences[name], case.tolerance)
        report['contenders'].append(entry)
    return report


def _build(case: Case, inputs: Mapping[str, Any]) -> tuple[dict[str, Run], dict[str, str]]:
    """Builds what can run here, ours first; returns it and, for the rest, the reasons."""
    if OURS not in case.contenders:
        raise ValueError(f"case {case.name} has no contender '{OURS}', but every ratio is taken to it; add one")
    runs, reasons = {}, {}
    for contender in sorted(case.contenders.values(), key=lambda contender: contender.name != OURS):
        if contender.problem:
            reasons[contender.name] = contender.problem
        else:
            runs[contender.name] = contender.build(**inputs)
    return runs, reasons


def _warm_up(case: Case, runs: dict[str, Run], reasons: dict[str, str], leaves: list[Tensor]) -> dict[str, dict]:
    """Runs everything once and compares with ours; moves what runs out of memory from ``runs`` to ``reasons``."""
    differences, reference = {}, None
    for name in list(runs):
        try:
            output = runs[name]()
            values = [value.detach() for value in tensors_in(output)]
            gradients = gradients_of(output, leaves)
        except torch.OutOfMemoryError:
            reasons[name] = 'out of memory'
            del runs[name]
            continue
        if name == OURS:
            # On the host, so that it takes no memory from the contenders to come.
            reference = [value.cpu() for value in values], [gradient.cpu() for gradient in gradients]
        elif reference is not None:
            scaled = bool(case.contenders[name].up_to_factor)
            factor = common_factor(gradients or values, reference[1] or reference[0]) if scaled else 1.0
            differences[name] = {
                'value': relative_difference(values, reference[0], factor),
                'gradient': relative_difference(gradients, reference[1], factor) if leaves else None,
                'factor': factor if scaled else None,
            }
        del output, values, gradients
    return differences


def _judge(contender: Contender, difference: dict, tolerance: float) -> dict:
    """Adds whether a contender agrees with ours, and what it says about it; None where it need not agree."""
    measured = [difference['value']] + ([] if difference['gradient'] is None else [difference['gradient']])
    agrees = None if contender.differs else all(value <= tolerance for value in measured)
    finite = {key: value if value is None or math.isfinite(value) else None for key, value in difference.items()}
    return {**finite, 'agrees': agrees, 'tolerance': tolerance, 'why': contender.differs or contender.up_to_factor}


def _memory(run: Run, leaves: list[Tensor], device: torch.device) -> dict[str, int]:
    memory = {FORWARD: peak_extra_memory(run, device)}
    if leaves:

        def both():
            output = run()
            return output, gradients_of(output, leaves)

        memory[BOTH] = peak_extra_memory(both, device)
    return memory


def time_rounds(
    runs: Mapping[str, Run],
    leaves: list[Tensor],
    device: torch.device,
    rounds: int | None,
    seconds: float,
    on_progress: Callable[[float], None],
) -> Samples:
    """Times every contender once a round, the order moving on by one each round.

    Returns:
        Seconds of each round, by contender and phase.
    """
    names = list(runs)
    samples: Samples = {name: {} for name in names}
    gc.collect()
    gc.freeze()  # so that the collection between the rounds looks at what the rounds left behind, not at all modules
    gc.disable()
    try:
        start, done = time.perf_counter(), 0
        while True:
            spent = time.perf_counter() - start
            share = done / rounds if rounds else min(done / LEAST_ROUNDS, max(spent / seconds, done / MOST_ROUNDS))
            on_progress(min(share, 1.0))
            if share >= 1:
                return samples
            for turn in range(len(names)):
                name = names[(done + turn) % len(names)]
                for phase, value in time_once(runs[name], leaves, device).items():
                    samples[name].setdefault(phase, []).append(value)
            gc.collect()
            done += 1
    finally:
        gc.enable()
        gc.unfreeze()


def time_once(run: Run, leaves: list[Tensor], device: torch.device) -> dict[str, float]:
    """Times one forward pass and, if there are leaves, its backward pass.

    On CUDA the time is that between events in the stream, with the device idle before the first, so that work on
    the host in between counts where the device waits for it.

    Returns:
        Seconds by phase.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    marks = [_now(device)]
    output = run()
    marks.append(_now(device))
    if leaves:
        gradients = gradients_of(output, leaves)
        marks.append(_now(device))
        del gradients
    del output
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        marks = [marks[0].elapsed_time(mark) / 1e3 for mark in marks]
    phases = {FORWARD: marks[1] - marks[0]}
    if leaves:
        phases |= {BACKWARD: marks[2] - marks[1], BOTH: marks[2] - marks[0]}
    return phases


def _now(device: torch.device) -> Any:
    if device.type != 'cuda':
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yields the tensors of nested dicts, lists and tuples, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def gradients_of(output: Any, leaves: list[Tensor]) -> list[Tensor]:
    """Gradients, with respect to the leaves, of the sum of all outputs that have one."""
    if not leaves:
        return []
    total = sum(value.sum() for value in tensors_in(output) if value.requires_grad)
    return list(torch.autograd.grad(total, leaves))


def relative_difference(actual: list[Tensor], expected: list[Tensor], factor: float = 1.0) -> float:
    """2-norm of factor * actual - expected over that of expected, all tensors taken together.

    Returns:
        The difference; the norm itself where everything expected is 0; NaN where shapes differ or a value is NaN.
    """
    if _shapes(actual) != _shapes(expected):
        return math.nan
    difference = math.sqrt(sum(float((factor * a - b).square().sum()) for a, b in _chunks(actual, expected)))
    scale = math.sqrt(sum(float(b.square().sum()) for _, b in _chunks(actual, expected)))
    return difference / scale if scale > 0 else difference


def common_factor(actual: list[Tensor], expected: list[Tensor]) -> float:
    """Factor that brings the actual tensors closest to the expected ones; NaN where shapes differ."""
    if _shapes(actual) != _shapes(expected):
        return math.nan
    dot = sum(float((a * b).sum()) for a, b in _chunks(actual, expected))
    square = sum(float(a.square().sum()) for a, _ in _chunks(actual, expected))
    return dot / square if square > 0 else 1.0


def _shapes(tensors: list[Tensor]) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors]


def _chunks(actual: list[Tensor], expected: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the same pieces of both, flat, float64, on the host; small, because a gradient can take gigabytes."""
    for a, b in zip(actual, expected, strict=True):
        for pair in zip(a.flatten().split(1 << 22), b.flatten().split(1 << 22), strict=True):
            yield tuple(piece.cpu().double() for piece in pair)


def spread(values: list[float]) -> dict[str, float]:
    """Median, quartiles and extremes."""
    low, q25, median, q75, high = np.percentile(values, [0, 25, 50, 75, 100]).tolist()
    return {'median': median, 'q25': q25, 'q75': q75, 'min': low, 'max': high}


def ratio(values: list[float], ours: list[float]) -> dict:
    """Ratio to ours: that of the medians, and the spread of those of each round."""
    of_rounds = [value / base for value, base in zip(values, ours, strict=True)]
    return {'of_medians': float(np.median(values) / np.median(ours)), 'of_rounds': spread(of_rounds)}
