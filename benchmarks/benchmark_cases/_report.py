"""What the benchmark leaves behind: tables on the terminal, a JSON file and a bar plot."""

import datetime
import json
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table

from mmplugins.hosts import HOSTS

from ._case import OURS
from ._measure import BACKWARD, BOTH, FORWARD

COLOURS = {FORWARD: '#33658a', BACKWARD: '#f6ae2d', 'memory': '#5b8c5a'}


def environment(devices: list[torch.device]) -> dict:
    """Describes the machine and the software, for the JSON file."""
    return {
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'cpu': cpu_model(),
        'cpu_count': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'load': os.getloadavg()[0] if hasattr(os, 'getloadavg') else None,  # mean of the last minute
        'platform': platform.platform(),
        'devices': {device.type: device_name(device) for device in devices},
        'python': platform.python_version(),
        'torch': torch.__version__,
        'cuda': torch.version.cuda,
        'hosts': {host: _version_of(wanted.distribution) for host, wanted in HOSTS.items()},
    }


def _version_of(distribution: str) -> str | None:
    name = distribution.partition('==')[0]
    for candidate in (name, name.removeprefix('onedl-'), f'{name.removeprefix("onedl-")}-lite'):
        try:
            return f'{candidate} {version(candidate)}'
        except PackageNotFoundError:
            continue
    return None


def cpu_model() -> str:
    """Name of the processor."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """Name of a device as its maker calls it."""
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else cpu_model()


def print_report(console: Console, report: dict) -> None:
    """Prints the table of one case and what there is to say about its contenders."""
    settings = ', '.join(f'{key} {value}' for key, value in report['arguments'].items())
    title = f'{report["case"]} on {report["device"]}, {report["size"]} ({settings}), {report["rounds"]} rounds'
    if report['skipped']:
        console.print(f'[bold]{report["case"]}[/] on {report["device"]}: [yellow]skipped:[/] {report["skipped"]}')
        return
    table = Table(title=title, title_justify='left', title_style='bold', box=HORIZONTALS, padding=0)
    for column in ('contender', 'phase'):
        table.add_column(column, no_wrap=True)
    for column in ('median ms', 'middle half', 'x ours', 'middle half', 'peak MiB', 'x ours'):
        table.add_column(column, justify='right', no_wrap=True)
    for entry in report['contenders']:
        for row in _rows(entry):
            table.add_row(*row)
        table.add_section()
    console.print(table)
    peaks = without_gradients(report)
    if peaks:
        given = f'{report["gradient_bytes"] / 2**20:.2f}'
        beyond = ', '.join(
            f'{name} {peak / 2**20:.2f} ({peak / max(peaks[OURS], 1):.2f} x ours)' for name, peak in peaks.items()
        )
        console.print(f'  peak MiB beyond the gradients that all return ({given}): {beyond}', highlight=False)
    for entry in report['contenders']:
        for note in _notes(entry):
            console.print(f'  {entry["name"]}: {note}', highlight=False)


def without_gradients(report: dict) -> dict[str, int]:
    """Gives, by contender, the peak of what it takes beyond the gradients that all return, in bytes; {} without any."""
    peaks = {entry['name']: entry['memory_bytes'] for entry in report['contenders'] if 'memory_bytes' in entry}
    return {
        name: max(peak[FORWARD], peak[BOTH] - report['gradient_bytes']) for name, peak in peaks.items() if BOTH in peak
    }


def _rows(entry: dict) -> Iterator[tuple[str, ...]]:
    name = entry['name']
    for phase, time in entry.get('seconds', {}).items():
        ratio, peak = entry['ratio'][phase], entry['memory_bytes'].get(phase)
        share = entry['memory_ratio'].get(phase)
        yield (
            name,
            'both' if phase == BOTH else phase,  # the table has to fit 80 columns
            f'{1e3 * time["median"]:.4g}',
            f'{1e3 * time["q25"]:.4g}..{1e3 * time["q75"]:.4g}',
            f'{ratio["of_medians"]:.2f}',
            f'{ratio["of_rounds"]["q25"]:.2f}..{ratio["of_rounds"]["q75"]:.2f}',
            '' if peak is None else f'{peak / 2**20:.2f}',
            '' if share is None else f'{share:.2f}',
        )
        name = ''


def _notes(entry: dict) -> Iterator[str]:
    if entry['skipped']:
        yield f'[yellow]skipped:[/] {entry["skipped"]}'
    difference = entry.get('difference')
    if not difference:
        return
    parts = [
        f'{what} {"not comparable" if difference[what] is None else format(difference[what], ".2g")}'
        for what in ('value', 'gradient')
        if what in difference
    ]
    text = f'relative difference from ours: {", ".join(parts)}'
    if difference['factor'] is not None:
        text += f', after a factor of {difference["factor"]:.5g}'
    if difference['why']:
        text += f' ({difference["why"]})'
    if difference['agrees'] is False:
        text += f' [bold red]DISAGREES[/]: more than {difference["tolerance"]:g}'
    yield text


def disagreements(reports: list[dict]) -> list[str]:
    """Names the contenders whose values should be ours and are not."""
    return [
        f'{report["case"]}/{entry["name"]} on {report["device"]}'
        for report in reports
        for entry in report['contenders']
        if entry.get('difference', {}).get('agrees') is False
    ]


def write_json(path: Path, machine: dict, settings: dict, reports: list[dict]) -> None:
    """Writes everything that was measured, the raw samples included; times in seconds, memory in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {'environment': machine, 'settings': settings, 'results': reports}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + '\n')


def plot(path: Path, reports: list[dict]) -> bool:
    """Draws times (median, with quartiles) and peak memory of each case as bars, ratios beside them.

    Returns:
        Whether there was anything to draw.
    """
    from matplotlib.figure import Figure  # slow to import, and --list needs none

    reports = [report for report in reports if not report['skipped']]
    if not reports:
        return False
    bars = [sum('seconds' in entry for entry in report['contenders']) for report in reports]
    figure = Figure(figsize=(11, sum(0.9 + 0.42 * count for count in bars)), layout='constrained')
    grid = figure.subplots(len(reports), 2, squeeze=False, height_ratios=[0.9 + 0.42 * count for count in bars])
    for (time_axes, memory_axes), report in zip(grid, reports, strict=True):
        entries = [entry for entry in report['contenders'] if 'seconds' in entry][::-1]  # the first on top
        _draw_times(time_axes, entries)
        _draw_memory(memory_axes, entries)
        time_axes.set_title(f'{report["case"]}, {report["device"]}, {report["size"]}', loc='left', fontsize=10)
        for axes in (time_axes, memory_axes):
            axes.spines[['top', 'right']].set_visible(False)
            axes.set_xlim(0, 1.15 * axes.get_xlim()[1])  # room for the ratios
    if any(BACKWARD in entry['seconds'] for report in reports for entry in report['contenders'] if 'seconds' in entry):
        handles = [grid[0][0].bar(0, 0, color=COLOURS[phase], label=phase) for phase in (FORWARD, BACKWARD)]
        figure.legend(handles=handles, loc='outside upper right', ncols=2, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return True


def _draw_times(axes, entries: list[dict]) -> None:
    """Forward and backward stacked; the error bar holds the quartiles of their sum."""
    for row, entry in enumerate(entries):
        left = 0.0
        for phase in (FORWARD, BACKWARD):
            if phase in entry['seconds']:
                width = 1e3 * entry['seconds'][phase]['median']
                axes.barh(row, width, left=left, color=COLOURS[phase], height=0.7)
                left += width
        whole = BOTH if BOTH in entry['seconds'] else FORWARD
        low, middle, high = (1e3 * entry['seconds'][whole][key] for key in ('q25', 'median', 'q75'))
        axes.errorbar(middle, row, xerr=[[middle - low], [high - middle]], color='black', capsize=3, linewidth=1)
        axes.annotate(
            f'x {entry["ratio"][whole]["of_medians"]:.2f}',
            (max(left, high), row),
            xytext=(5, 0),
            textcoords='offset points',
            va='center',
            fontsize=9,
        )
    axes.set_yticks(range(len(entries)), [entry['name'] for entry in entries])
    axes.set_xlabel('time, ms', fontsize=9)


def _draw_memory(axes, entries: list[dict]) -> None:
    for row, entry in enumerate(entries):
        whole = BOTH if BOTH in entry['memory_bytes'] else FORWARD
        peak, share = entry['memory_bytes'][whole] / 2**20, entry['memory_ratio'][whole]
        axes.barh(row, peak, color=COLOURS['memory'], height=0.7)
        text = f'x {share:.2f}' if share is not None else ''
        axes.annotate(text, (peak, row), xytext=(5, 0), textcoords='offset points', va='center', fontsize=9)
    axes.set_yticks(range(len(entries)), [])
    axes.set_xlabel('peak extra memory, MiB', fontsize=9)
