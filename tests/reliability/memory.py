"""What a process holds, and whether that grows in a run; for the scripts of this folder."""

from collections.abc import Sequence
from pathlib import Path


def held() -> float:
    """Memory that this process holds, in MB."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * 4096 / 1e6


def grows(samples: Sequence[float]) -> bool:
    """Whether the second half of a run holds more than 5 % and 20 MB more than the first half did at most.

    Args:
        samples: What was held at even intervals, in MB; at least two.
    """
    first, second = max(samples[: len(samples) // 2]), max(samples[len(samples) // 2 :])
    return second > 1.05 * first and second > first + 20


def curve(samples: Sequence[float]) -> str:
    """What was held in each tenth of a run at its end, in MB; all samples if there are fewer than twenty."""
    step = max(len(samples) // 10, 1)
    return ' '.join(f'{value:.0f}' for value in samples[step - 1 :: step])
