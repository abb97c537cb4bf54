"""Curves as SVG, which a page can hold: no script, no font and no file of its own."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 420, 230  # in units of the picture, which grows with the page
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 30
MOST_POINTS = 600  # of a curve
SMOOTH_FROM = 150  # points from which on a curve has a smooth one over it


class Series(NamedTuple):
    """A curve.

    Attributes:
        name: In the legend.
        points: (iteration, value), ascending.
        marked: Whether each point has a mark, as those of validations have.
    """

    name: str
    points: Sequence[tuple[float, float]]
    marked: bool = False


def chart(series: Sequence[Series], percent: bool = False, from_zero: bool = True) -> str:
    """Draws curves over iterations.

    Args:
        series: The curves; values that are not finite are left out.
        percent: Whether values are shares, written in percent.
        from_zero: Whether the vertical axis begins at 0 where no value is below.

    Returns:
        An ``svg`` element with a legend as ``div`` behind it; '' if there is nothing to draw.
    """
    series = [_finite(one) for one in series]
    series = [one for one in series if one.points]
    if not series:
        return ''
    xs = [x for one in series for x, _ in one.points]
    low, high = _range([y for one in series for _, y in one.points], from_zero)
    last = max(xs)
    first = 0 if len({*xs}) == 1 or min(xs) < last / 4 else min(xs)
    frame = _Frame(first, max(last, first + 1), low, high)
    parts = [_grid(frame, percent)]
    for number, one in enumerate(series):
        parts.append(_curve(frame, one, number % 6, percent))
    title = escape(', '.join(one.name for one in series))
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
    legend = ''.join(
        f'<span class="c{number % 6}{" marked" if one.marked else ""}">{escape(one.name)} '
        f'<b>{_number(one.points[-1][1], percent)}</b></span>'
        for number, one in enumerate(series)
    )
    return f'{svg}<div class="legend">{legend}</div>'


def smooth(values: Sequence[float], share: float = 0.9) -> list[float]:
    """Averages each value with those before it, whose weights fall by a share a step; the first is not preferred."""
    total, weight, found = 0.0, 0.0, []
    for value in values:
        total, weight = share * total + value, share * weight + 1
        found.append(total / weight)
    return found


class _Frame(NamedTuple):
    """The ranges of both axes."""

    first: float
    last: float
    low: float
    high: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.first) / (self.last - self.first)
        up = (y - self.low) / (self.high - self.low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _finite(one: Series) -> Series:
    points = [(x, y) for x, y in one.points if math.isfinite(y)]
    if len(points) > MOST_POINTS:
        step = len(points) / MOST_POINTS
        points = [points[min(int((index + 1) * step), len(points)) - 1] for index in range(MOST_POINTS)]
    return one._replace(points=points)


def _range(values: Sequence[float], from_zero: bool) -> tuple[float, float]:
    """Returns the range of the vertical axis; a start far above the rest is cut off, which would flatten it."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    usual = ordered[int(0.97 * (len(ordered) - 1))]
    if len(ordered) >= 20 and high - low > 4 * (usual - low) > 0:
        high = usual + 0.5 * (usual - low)
    if from_zero and low >= 0:
        low = 0.0
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return (low if low == 0 else low - margin), high + margin


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Returns round numbers between two others."""
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [index * step for index in range(first, math.floor(high / step) + 1)]


def _grid(frame: _Frame, percent: bool) -> str:
    parts = []
    for value in _ticks(frame.low, frame.high, 5):
        _, y = frame.place(frame.first, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="right">{_number(value, percent)}</text>')
    for value in _ticks(frame.first, frame.last, 5):
        if value == int(value):
            x, _ = frame.place(value, frame.low)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 10}" class="middle">{int(value)}</text>')
    return ''.join(parts)


def _curve(frame: _Frame, one: Series, colour: int, percent: bool) -> str:
    inside = [(x, min(y, frame.high)) for x, y in one.points]
    parts = [_line(frame, inside, 'line')] if len(inside) > 1 else []
    if one.marked or len(inside) == 1:
        for (x, y), (_, value) in zip(inside, one.points, strict=True):
            across, down = frame.place(x, y)
            note = f'{one.name} {_number(value, percent)} at {x:g}'
            mark = f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3.2"><title>{escape(note)}</title></circle>'
            parts.append(mark)
    elif len(inside) >= SMOOTH_FROM:
        means = zip((x for x, _ in inside), smooth([y for _, y in inside]), strict=True)
        parts = [_line(frame, inside, 'line faint'), _line(frame, list(means), 'line')]
    return f'<g class="c{colour}">{"".join(parts)}</g>'


def _line(frame: _Frame, points: Sequence[tuple[float, float]], kind: str) -> str:
    places = ' '.join('{:.1f},{:.1f}'.format(*frame.place(x, y)) for x, y in points)
    return f'<polyline class="{kind}" points="{places}"/>'


def _number(value: float, percent: bool = False) -> str:
    if percent:
        return f'{100 * value:.3g}%'
    if value == 0 or 0.001 <= abs(value) < 1e5:
        return f'{value:.4g}'
    return f'{value:.1e}'.replace('e-0', 'e-').replace('e+0', 'e+')
