"""Measures how time and memory of Mask2Former's matching and losses grow with the number of objects of an image.

    python benchmarks/benchmark_growth.py --threads 1 --plot growth.png

One image, 10 decoder layers, 100 queries; the case ``mask2former_crowd`` of ``benchmark.py`` with other numbers of
objects. At most 100 objects of a layer get a query, so above 100 it is the matching that grows.
"""

import os
import statistics
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # torch's profiler writes a line to stderr at every start

import torch
from benchmark_cases import OURS, load_cases
from benchmark_cases._measure import BOTH, gradients_of, tensors_in, time_once
from benchmark_cases._memory import peak_extra_memory
from benchmark_cases._report import device_name

CASE = 'mask2former_crowd'
SIZE = {'layers': 10, 'images': 1, 'queries': 100, 'logit_size': 256, 'mask_size': 1024}


def measure(objects: int, rounds: int, **size: int) -> tuple[float, int, int]:
    """Measures one number of objects.

    Args:
        objects: How many.
        rounds: How often it is timed.
        **size: What else the case's inputs take.

    Returns:
        Median seconds, forward and backward; the peak in bytes beyond the gradients and the masks; the masks' bytes.
    """
    device, case = torch.device('cpu'), load_cases()[CASE]
    inputs = case.make_inputs(device, objects=objects, **size)
    leaves = [tensor for tensor in tensors_in(inputs) if tensor.requires_grad]
    run = case.contenders[OURS].build(**inputs)
    time_once(run, leaves, device)
    seconds = [time_once(run, leaves, device)[BOTH] for _ in range(rounds)]

    def both() -> tuple:
        output = run()
        return output, gradients_of(output, leaves)

    gradients = sum(leaf.numel() * leaf.element_size() for leaf in leaves)
    peak = max(peak_extra_memory(run, device), peak_extra_memory(both, device) - gradients)
    return statistics.median(seconds), peak, sum(bitmap.nbytes for bitmap in inputs['bitmaps'])


def plot(path: Path, rows: Sequence[tuple[int, float, int, int]]) -> None:
    """Draws time and peak over the number of objects."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout='constrained')
    for axes, column, unit, label in zip(figure.subplots(1, 2), (1, 2), (1, 2**20), ('s', 'MiB'), strict=True):
        axes.plot([row[0] for row in rows], [row[column] / unit for row in rows], 'o-')
        axes.set(xlabel='objects', ylabel=label, xlim=(0, None), ylim=(0, None))
        axes.set_title(('time', 'peak extra memory without gradients')[column - 1], fontsize=10, loc='left')
        axes.spines[['top', 'right']].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--objects', type=int, nargs='+', default=[20, 100, 500, 1000])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', type=int, help="torch's CPU threads (default: torch decides)")
    parser.add_argument('--plot', type=Path, help='draw the curves into this file')
    for name, value in SIZE.items():
        parser.add_argument(f'--{name.replace("_", "-")}', type=int, default=value)
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    print(f'{device_name(torch.device("cpu"))}, {torch.get_num_threads()} threads, torch {torch.__version__}')
    print(f'{"objects":>8}{"ms":>10}{"peak MiB":>12}{"masks MiB":>12}')
    rows = []
    for objects in args.objects:
        seconds, peak, masks = measure(objects, args.rounds, **{name: getattr(args, name) for name in SIZE})
        rows.append((objects, seconds, peak, masks))
        print(f'{objects:>8}{1e3 * seconds:>10.0f}{peak / 2**20:>12.1f}{masks / 2**20:>12.1f}', flush=True)
    if args.plot:
        plot(args.plot, rows)


if __name__ == '__main__':
    # mmcv-lite warns about operators that no case uses.
    warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
    sys.exit(main())
