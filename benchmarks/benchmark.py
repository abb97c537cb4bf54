"""Compares the speed and memory of our components with the toolboxes' and with the released formulas.

    python benchmarks/benchmark.py                           # every case, typical size, every device
    python benchmarks/benchmark.py --only ohem topk --size small --rounds 20
    python benchmarks/benchmark.py --list

All contenders of a case run in this process, on the same tensors, in turns: each round times every contender once,
and the order moves on by one from round to round, so that what disturbs the machine disturbs all of them. The table
shows medians with the middle half of the samples (25th to 75th percentile), and the ratio of each contender's median
to ours, with the middle half of the ratios of single rounds: above 1 means that ours is faster, or takes less memory.
Memory is the peak of what a pass takes beyond its inputs, measured in runs that are not timed; how, and what it
cannot see, stands in ``benchmark_cases/_memory.py``; below the table it stands without the gradients that every
contender has to return. Values and gradients are compared with ours in the warm-up run.
If a contender that should agree does not, the exit code is 1.

The JSON file holds the machine, the versions, the settings and every sample. Measure on a quiet machine: where other
programs hold its cores, torch's threads wait for one another at every parallel operator, which costs contenders of
many operators most and turns ratios upside down (``--threads 1`` suffers less).

Adding a case: write this into a module of ``benchmark_cases/`` (one for each group; every module there whose name has
no leading underscore is found by itself)::

    from ._case import Run, case

    @case(
        'dice',                                        # the name for --only
        'one minus the Dice coefficient',              # one line for --list
        small={'shape': (2, 64, 64)},                  # arguments of the function below
        typical={'shape': (16, 512, 512)},
        large={'shape': (64, 1024, 1024)},
        tolerance=1e-5,                                # largest relative difference from ours (default 1e-4)
    )
    def dice(device: torch.device, shape: tuple) -> dict:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(shape, generator=generator).to(device).requires_grad_()
        mask = (torch.rand(shape, generator=generator) < 0.2).to(device)
        return {'logits': logits, 'mask': mask}        # what every contender below takes

    @dice.contender('ours')                            # must be there: ratios are taken to it
    def dice_ours(logits: Tensor, mask: Tensor) -> Run:
        loss = DiceLoss()                              # not timed
        return lambda: loss(logits, mask)              # timed

    @dice.contender('mmdet', host='mmdet', differs='squares the denominator')
    def dice_mmdet(logits: Tensor, mask: Tensor) -> Run:
        from mmdet.models.losses import DiceLoss       # only here: without mmdet it is skipped, with a reason
        loss = DiceLoss()
        return lambda: loss(logits, mask)

Every input tensor that requires a gradient gets one in the backward pass; a case without any, such as a matching, is
measured forward only. A contender may return a tensor or nested dicts, lists and tuples of tensors; all are compared,
and the backward pass starts from the sum of those with a gradient. ``differs`` says why values need not agree,
``up_to_factor`` why they agree up to a common factor.
"""

import argparse
import datetime
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # torch's profiler writes a line to stderr at every start

import torch
from benchmark_cases import SIZES, load_cases
from benchmark_cases._measure import measure
from benchmark_cases._report import disagreements, environment, plot, print_report, write_json
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

OUTPUT = Path('work_dirs/benchmark')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--only', nargs='+', metavar='NAME', help='cases to run (default: all; --list shows them)')
    parser.add_argument('--size', choices=SIZES, default='typical')
    parser.add_argument(
        '--rounds', type=positive, metavar='N', help='rounds of each case (default: 7 or more, for 10 seconds)'
    )
    parser.add_argument('--device', choices=('cpu', 'cuda', 'auto'), default='auto', help='auto: CPU, and CUDA if any')
    parser.add_argument('--threads', type=positive, metavar='N', help="torch's CPU threads (default: torch decides)")
    parser.add_argument('--json', type=Path, metavar='PATH', help=f'default: {OUTPUT}/<date>_<size>.json')
    parser.add_argument('--plot', type=Path, metavar='PATH', help='default: the same with .png')
    parser.add_argument('--list', action='store_true', help='show the cases and leave')
    args = parser.parse_args(arguments)
    args.cases = load_cases()
    unknown = [name for name in args.only or () if name not in args.cases]
    if unknown:
        parser.error(f'no case named {", ".join(unknown)}; there are {", ".join(args.cases)}')
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('torch finds no CUDA device; use --device cpu, or install a torch built for your driver')
    stem = f'{datetime.datetime.now():%Y%m%d-%H%M%S}_{args.size}'
    args.json = args.json or OUTPUT / f'{stem}.json'
    args.plot = args.plot or args.json.with_suffix('.png')
    return args


def positive(text: str) -> int:
    """Converts an option to a positive integer."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'expected a positive integer, got {value}')
    return value


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and returns the exit code."""
    args = parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    if args.list:
        for case in args.cases.values():
            console.print(f'[bold]{case.name}[/]: {case.description}')
            console.print(f'  contenders: {", ".join(case.contenders)}', highlight=False)
            for size, settings in case.sizes.items():
                console.print(f'  {size}: {settings}', highlight=False)
        return 0

    if args.threads:
        torch.set_num_threads(args.threads)
    types = ['cpu'] if args.device == 'auto' else [args.device]
    if args.device == 'auto' and torch.cuda.is_available():
        types.append('cuda')
    devices = [torch.device(name) for name in types]
    machine = environment(devices)
    settings = {'size': args.size, 'rounds': args.rounds, 'device': args.device, 'only': args.only}
    jobs = [(args.cases[name], device) for name in args.only or args.cases for device in devices]
    console.print(
        f'{", ".join(f"{kind}: {name}" for kind, name in machine["devices"].items())}; '
        f'threads: {machine["threads"]}, torch {machine["torch"]}'
    )
    if machine['load'] is not None and machine['load'] > 0.5:
        console.print(f'[yellow]the machine is busy (load {machine["load"]:.2f}); do not rely on these times[/]')

    reports = []
    columns = (TextColumn('{task.description}', markup=False), BarColumn(), TimeElapsedColumn())
    # No refresh by itself: its thread would take time from what is measured. The end of a round redraws the bar.
    progress = Progress(*columns, console=console, transient=True, auto_refresh=False, disable=not console.is_terminal)
    with progress:
        for number, (case, device) in enumerate(jobs, 1):
            what = f'[{number}/{len(jobs)}] {case.name} on {device}'
            if not console.is_terminal:
                console.print(f'{what} ...', markup=False)
            task = progress.add_task(what, total=1.0)
            report = measure(
                case,
                args.size,
                device,
                args.rounds,
                on_progress=lambda done, t=task: progress.update(t, completed=done, refresh=True),
            )
            progress.remove_task(task)
            reports.append(report)
            print_report(console, report)
            write_json(args.json, machine, settings, reports)  # each time: a later case may run out of memory

    console.print(f'written: {args.json}', highlight=False, soft_wrap=True)
    if plot(args.plot, reports):
        console.print(f'written: {args.plot}', highlight=False, soft_wrap=True)
    wrong = disagreements(reports)
    if wrong:
        console.print(f'[bold red]values that should agree with ours do not:[/] {", ".join(wrong)}')
    return 1 if wrong else 0


if __name__ == '__main__':
    # mmcv-lite warns about operators that no case uses.
    warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
    sys.exit(main())
