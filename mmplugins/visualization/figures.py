"""Figures of several pictures: images beside what a loss sees of them, sampled points, matched objects.

matplotlib's figures without pyplot, which would keep them, and choose a window system.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

UNCERTAIN, ANYWHERE = (0.84, 0.15, 0.16), (0.12, 0.47, 0.71)  # colours of points
Legend = list[tuple[str, Sequence[int]]]  # name and (R, G, B)


class Column(NamedTuple):
    """What one column shows.

    Attributes:
        title: Heading.
        pictures: For each image RGB, uint8, shape (H, W, 3).
        notes: A line below each picture; may be empty.
    """

    title: str
    pictures: list[np.ndarray]
    notes: list[str]


def draw_columns(columns: Sequence[Column], legend: Legend = (), cell: float = 2.8) -> Figure:
    """Draws a row for each image.

    Args:
        columns: What is shown, left to right.
        legend: Names with (R, G, B), 0 to 255; may be empty.
        cell: Width of a picture in inches.

    Returns:
        The figure.
    """
    num_rows = len(columns[0].pictures)
    height, width = columns[0].pictures[0].shape[:2]
    legend_height = 0.7 + 0.05 * len(legend) if legend else 0.3
    size = (len(columns) * cell, num_rows * (0.97 * cell * height / width + 0.22) + legend_height)
    figure, axes = new_figure(num_rows, len(columns), size)
    figure.get_layout_engine().set(h_pad=0.02, w_pad=0.04)
    for column, column_axes in zip(columns, axes.T, strict=True):
        column_axes[0].set_title(column.title, fontsize=12 if len(column.title) < 24 else 9)
        for axis, picture, note in zip(column_axes, column.pictures, column.notes, strict=True):
            axis.imshow(picture, interpolation='nearest')
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(note, fontsize=9, labelpad=2)
            axis.spines[:].set_visible(False)
    if legend:
        patches = [Patch(facecolor=np.array(colour) / 255, edgecolor='grey', label=name) for name, colour in legend]
        figure.legend(handles=patches, loc='outside lower center', ncols=5, frameon=False, fontsize=9)
    return figure


def draw_points(axis: Axes, certainty: np.ndarray, points: np.ndarray, num_uncertain: int, ratio: float) -> None:
    """Draws sampled points over the certainty of the mask logits that they were drawn from, dark being uncertain.

    Args:
        axis: Where.
        certainty: |logit|, shape (h, w).
        points: x,y in 0 to 1, shape (P, 2), those chosen by uncertainty first.
        num_uncertain: How many of them were chosen by uncertainty.
        ratio: Height of the image over its width; the axis counts in widths.
    """
    top = max(float(certainty.max()), 1e-6)
    axis.imshow(certainty, extent=(0, 1, ratio, 0), cmap='gray', vmin=0, vmax=top)
    colours = [UNCERTAIN] * num_uncertain + [ANYWHERE] * (len(points) - num_uncertain)
    axis.scatter(*(points * (1, ratio)).T, s=2.0, c=colours, linewidths=0)
    axis.set_xlim(0, 1)
    axis.set_ylim(ratio, 0)


def draw_outlined(axis: Axes, image: np.ndarray, outline: np.ndarray) -> None:
    """Draws an image, uint8, (H, W, 3), with the outline of a mask, bool, (H, W); the axis counts in widths."""
    extent = (0, 1, image.shape[0] / image.shape[1], 0)
    axis.imshow(image, extent=extent)
    if outline.any() and not outline.all():
        axis.contour(outline, levels=[0.5], colors=['yellow'], linewidths=1.2, extent=extent, origin='upper')


def new_figure(
    rows: int, columns: int, size: tuple[float, float], widths: Sequence[float] | None = None
) -> tuple[Figure, np.ndarray]:
    """Makes a figure of so many inches and its axes, an array (rows, columns); ``widths`` are those of the columns."""
    figure = Figure(figsize=size, dpi=130, layout='constrained')
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, width_ratios=widths)


def to_image(figure: Figure) -> np.ndarray:
    """Renders a figure made here: RGB, uint8, shape (H, W, 3)."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
