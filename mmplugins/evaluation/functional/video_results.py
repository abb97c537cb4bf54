"""Results of objects in videos, averaged and written as tables.

Released code: davis2017-evaluation, ``evaluation_method.py``, whose names and layout the files have.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .video_objects import SeriesStatistics, series_statistics


class ObjectResult(NamedTuple):
    """Results of one object of one video.

    Attributes:
        video: Name of the video.
        number: Number of the object in it.
        frames: Frames that were measured.
        region: Statistics of J.
        boundary: Statistics of F.
    """

    video: str
    number: int
    frames: int
    region: SeriesStatistics
    boundary: SeriesStatistics


def object_results(video: str, frames: Sequence[Mapping[int, tuple[float, float]]]) -> list[ObjectResult]:
    """Summarises the objects of one video.

    Args:
        video: Its name.
        frames: J and F by object, for each frame that counts, in order; frames may lack objects.
    """
    series: dict[int, list[tuple[float, float]]] = {}
    for scores in frames:
        for number, pair in scores.items():
            series.setdefault(number, []).append(pair)
    return [
        ObjectResult(video, number, len(pairs), *map(series_statistics, zip(*pairs, strict=True)))
        for number, pairs in sorted(series.items())
    ]


def summarize(objects: Sequence[ObjectResult]) -> dict[str, float]:
    """Averages over objects.

    Returns:
        Fractions: J&F, J-Mean, J-Recall, J-Decay, F-Mean, F-Recall, F-Decay.
    """
    summary = {}
    for letter, kind in (('J', 'region'), ('F', 'boundary')):
        means = np.mean([getattr(result, kind) for result in objects], axis=0)
        for name, value in zip(('Mean', 'Recall', 'Decay'), means, strict=True):
            summary[f'{letter}-{name}'] = float(value)
    return {'J&F': (summary['J-Mean'] + summary['F-Mean']) / 2, **summary}


def results_table(objects: Sequence[ObjectResult]) -> str:
    """Writes results in percent: a line an object, one a sequence that has several, and a last one of all objects."""
    width = max(len('sequence'), *(len(result.video) for result in objects))

    def line(name: str, number: object, frames: object, group: Sequence[ObjectResult]) -> str:
        values = ''.join(f'{100 * value:10.2f}' for value in summarize(group).values())
        return f'{name:{width}}  {number!s:>6}  {frames!s:>6}{values}'

    names = ''.join(f'{name:>10}' for name in summarize(objects))
    lines = [f'{"sequence":{width}}  object  frames{names}']
    for video in dict.fromkeys(result.video for result in objects):
        group = [result for result in objects if result.video == video]
        lines += [line(video, result.number, result.frames, [result]) for result in group]
        if len(group) > 1:
            lines.append(line(video, 'mean', '', group))
    lines.append(line('all', len(objects), '', objects))
    return '\n'.join(lines)


def write_results(folder: str | Path, objects: Sequence[ObjectResult]) -> None:
    """Writes ``global_results.csv`` and ``per-sequence_results.csv``, fractions of three decimals.

    Args:
        folder: Where to; made if it is not there.
        objects: Results of all objects.
    """
    summary = summarize(objects)
    rows = [(f'{x.video}_{x.number}', f'{x.region.mean:.3f}', f'{x.boundary.mean:.3f}') for x in objects]
    tables = {
        'global_results.csv': [
            ['J&F-Mean', *list(summary)[1:]],
            [f'{value:.3f}' for value in summary.values()],
        ],
        'per-sequence_results.csv': [('Sequence', 'J-Mean', 'F-Mean'), *rows],
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        with open(Path(folder, name), 'w', newline='', encoding='utf-8') as file:
            csv.writer(file).writerows(table)
