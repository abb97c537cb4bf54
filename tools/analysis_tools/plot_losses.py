"""Draws the curves of a run from the scalars that mmengine's LocalVisBackend wrote.

python tools/analysis_tools/plot_losses.py WORK_DIR --out curve.png
python tools/analysis_tools/plot_losses.py WORK_DIR --out curve.png --metric coco/bbox_mAP

The losses of a decoder's layers before the last (d0.loss_cls, ...) are in the total, and have no curve of their own.
"""

import re
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np

from mmplugins.report.work_dir import read_scalars

Curve = list[tuple[int, float]]  # (step, value)
AUXILIARY = re.compile(r'^d\d+\.')


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(
        description='Draw losses, the share of pixels that OHEM kept, the class error, and a validation metric.'
    )
    parser.add_argument('work_dir', type=Path, metavar='WORK_DIR', help='--work-dir of the training')
    parser.add_argument('--out', type=Path, required=True, help='picture to write (.png, .pdf, ...)')
    parser.add_argument('--metric', default='mIoU', help='validation metric (default: mIoU)')
    args = parser.parse_args(argv)
    try:
        curves = read_curves(args.work_dir)
    except ValueError as error:
        sys.exit(f'plot_losses.py: error: {error}')
    figure = draw_curves(curves, args.metric)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out)
    print(f'{args.out}')


def read_curves(work_dir: Path) -> dict[str, Curve]:
    """Reads all scalars of a work dir; where a resumed run did a step again, the later value counts.

    Args:
        work_dir: Folder with ``<time>/vis_data/scalars.json`` in it.

    Returns:
        For each name its (step, value) pairs, steps ascending.

    Raises:
        ValueError: There are no scalars, or a line is damaged.
    """
    values: dict[str, dict[int, float]] = {}
    for scalars in read_scalars(work_dir):
        for name, value in scalars.items():
            values.setdefault(name, {})[scalars.get('step', 0)] = value
    return {name: sorted(points.items()) for name, points in values.items()}


def draw_curves(curves: dict[str, Curve], metric: str) -> plt.Figure:
    """Draws a panel of losses, and one each for the share of kept pixels, the class error and the metric if logged.

    Args:
        curves: (step, value) pairs of each name.
        metric: Name of the validation metric.

    Returns:
        The figure.
    """
    losses = {
        name: curve
        for name, curve in curves.items()
        if name.rpartition('.')[2].startswith('loss') and not AUXILIARY.match(name)
    }
    kept = {name: curve for name, curve in curves.items() if name.rpartition('/')[2].endswith('ohem_kept')}
    panels = [('training loss', losses)]
    if kept:
        panels.append(('pixels that OHEM kept', kept))
    if 'class_error' in curves:  # in percent
        panels.append(('class error of matched queries', {'class_error': curves['class_error']}))
    if metric in curves:
        panels.append((f'validation {metric}', {metric: curves[metric]}))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5.2 * len(panels), 3.8), dpi=130, squeeze=False, layout='constrained'
    )
    for axis, (title, group) in zip(axes[0], panels, strict=True):
        draw_panel(axis, title, group)
        if group is kept:
            axis.yaxis.set_major_formatter(lambda value, _: f'{value:.0%}')
        elif 'class_error' in group:
            axis.yaxis.set_major_formatter(lambda value, _: f'{value:.0f}%')
    if metric in curves:
        axis, (step, value) = axes[0][-1], curves[metric][-1]
        axis.set_xlabel('epoch' if counts_epochs(curves, metric) else 'iteration')
        top = max(point for _, point in curves[metric])
        # mmdet's metrics are shares, mmseg's are percent
        text = f'{value:.1f}' if top > 1 else f'{value:.3f}'
        axis.annotate(text, (step, value), xytext=(0, 6), textcoords='offset points', ha='center')
        axis.set_ylim(top=1.15 * top or 1)
    return figure


def draw_panel(axis: plt.Axes, title: str, group: dict[str, Curve]) -> None:
    """Draws curves, the total loss thicker, over a vertical axis from 0."""
    axis.set_title(title)
    axis.set_xlabel('iteration')
    axis.grid(alpha=0.3)
    for name, curve in group.items():
        steps, points = np.array(curve).T
        total = name == 'loss'
        marker = 'o' if len(points) < 30 else None
        label = 'total' if total else name
        axis.plot(steps, points, label=label, marker=marker, markersize=3.5, linewidth=2 if total else 1.2)
    axis.set_ylim(bottom=0)
    if len(group) > 1:
        axis.legend(frameon=False)


def counts_epochs(curves: dict[str, Curve], metric: str) -> bool:
    """Whether a metric's steps are epochs: mmengine writes those where a run by epochs is validated."""
    if 'epoch' not in curves:
        return False
    return curves[metric][-1][0] <= max(epoch for _, epoch in curves['epoch'])


if __name__ == '__main__':
    main()
