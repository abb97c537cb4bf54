"""What boxes, masks and labels of objects look like after the pipeline, and which mistakes that tells of."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .report import Report, listed, more

SLACK = 1.0  # pixels that a box may reach beyond the image
LARGE_FILE = 64 * 2**20  # bytes of an annotation file from which on it is not read a second time


class Objects:
    """Counts objects and looks at their boxes.

    Attributes:
        labels: Number of objects, by label.
        images, empty: Number of images, of those without an object.
        outside: For each image with a box beyond its border, its name, the box and the image's width and height.
        flat: Names of images with a box without an area.
        normalised: Number of images all of whose boxes lie within 0 and 1.
        no_pixel: Number of masks without a pixel.
        masks: Number of masks.
    """

    def __init__(self) -> None:
        self.labels: Counter[int] = Counter()
        self.images = self.empty = self.normalised = self.no_pixel = self.masks = 0
        self.outside: list[tuple[str, list[float], tuple[int, int]]] = []
        self.flat: list[str] = []

    def add(self, name: str, labels: np.ndarray, masks: np.ndarray | None) -> None:
        """Counts the objects of an image after the pipeline.

        Args:
            name: Of the image.
            labels: Integers, (G,).
            masks: uint8 or bool, (G, H, W), if there are some.
        """
        self.images += 1
        self.empty += len(labels) == 0
        self.labels.update(labels.tolist())
        if masks is not None and len(masks):
            self.masks += len(masks)
            self.no_pixel += int((~masks.reshape(len(masks), -1).any(1)).sum())

    def add_boxes(self, name: str, boxes: np.ndarray, size: tuple[int, int]) -> None:
        """Looks at the boxes of an image.

        Args:
            name: Of the image.
            boxes: x1, y1, x2, y2 in pixels, (G, 4).
            size: Width and height of the image in pixels.
        """
        if not len(boxes):
            return
        width, height = size
        if ((boxes[:, 2:] - boxes[:, :2]) <= 0).any():
            self.flat.append(name)
        if boxes.max() <= 1 and min(size) > 8:
            self.normalised += 1
        beyond = (boxes < -SLACK).any(1) | (boxes[:, 2] > width + SLACK) | (boxes[:, 3] > height + SLACK)
        if beyond.any():
            self.outside.append((name, boxes[beyond][0].round(1).tolist(), size))


def check_objects(report: Report, key: str, objects: Objects, names: Sequence[str], seen: str) -> None:
    """Says what the objects tell.

    Args:
        report: Takes the findings, checks ``labels`` and ``boxes``.
        key: Key of the data set.
        objects: What was counted.
        names: Names of the classes.
        seen: How many files were looked at, in words.
    """
    here = f'{key}: {seen}: '
    _check_boxes(report, here, objects)
    total = sum(objects.labels.values())
    if not total:
        report.error(
            'labels',
            f'{here}no image has an object',
            'the names of metainfo.classes must be those of the categories in the annotation file, letter by letter; '
            'look at filter_cfg, and at with_bbox and with_mask of LoadAnnotations',
        )
        return
    outside = sorted(label for label in objects.labels if not 0 <= label < len(names))
    if outside:
        report.error(
            'labels',
            f'{here}labels {listed(outside, 8)}, the classes are 0 to {len(names) - 1}',
            'give metainfo.classes all names',
        )
    absent = [f'{label} ({name})' for label, name in enumerate(names) if not objects.labels[label]]
    if absent:
        report.warning(
            'labels',
            f'{here}no object of {len(absent)} of {len(names)} classes: {listed(absent)}',
            f'{more(here)}rare, or spelt otherwise in the annotation file?',
        )
    if objects.no_pixel:
        report.warning(
            'labels',
            f'{here}{objects.no_pixel} of {objects.masks} masks have no pixel after the pipeline',
            "dict(type='FilterAnnotations', by_mask=True) after the crop leaves them out",
        )
    parts = [f'{names[label]} {n}' for label, n in objects.labels.most_common() if 0 <= label < len(names)]
    empty = f'; {objects.empty} images without an object' * bool(objects.empty)
    report.ok('labels', f'{here}{total} objects: {listed(parts, 12)}{empty}')


def _check_boxes(report: Report, here: str, objects: Objects) -> None:
    found = len(report.findings)
    if objects.normalised and objects.normalised + objects.empty >= objects.images:
        report.error(
            'boxes',
            f'{here}all boxes lie within 0 and 1',
            'boxes are in pixels: multiply x by the width and y by the height when the annotations are written',
        )
    if objects.outside:
        name, box, (width, height) = objects.outside[0]
        report.warning(
            'boxes',
            f'{here}{len(objects.outside)} images have boxes outside the image: {name} {box} in {width}x{height}',
            'corners written as x, y, w, h, or boxes of another resolution? COCO files hold x, y, w, h in pixels',
        )
    if objects.flat:
        report.warning(
            'boxes',
            f'{here}{len(objects.flat)} images have boxes without an area, the first {objects.flat[0]}',
            'leave them out of the annotation file, or set filter_cfg=dict(min_size=1)',
        )
    if len(report.findings) == found:
        report.ok('boxes', f'{here}all boxes lie inside')


def check_categories(report: Report, key: str, dataset: object, names: Sequence[str]) -> None:
    """Compares the classes with the categories of a COCO file, which decides about their order.

    Args:
        report: Takes the findings, check ``labels``.
        key: Key of the data set.
        dataset: The data set, fully initialised; one without ``cat_ids`` is left alone.
        names: Names of its classes.
    """
    numbers, path = getattr(dataset, 'cat_ids', None), getattr(dataset, 'ann_file', None)
    if numbers is None or not isinstance(path, str) or not Path(path).is_file():
        return
    if Path(path).stat().st_size > LARGE_FILE and len(numbers) == len(names):
        return
    categories = json.loads(Path(path).read_text()).get('categories', [])
    by_number: Mapping[int, str] = {one['id']: one['name'] for one in categories}
    found = [by_number.get(number) for number in numbers]
    missing = [name for name in names if name not in by_number.values()]
    if missing:
        report.error(
            'labels',
            f'{key}: the annotation file has no category {listed(map(repr, missing))}; it has '
            f'{listed(map(repr, by_number.values()), 12)}',
            'spell metainfo.classes as the file does; with a name too many, the labels after it belong to others',
        )
    elif found != list(names):
        wrong = next((name, here) for name, here in zip(names, found, strict=False) if name != here)
        report.error(
            'labels',
            f'{key}: labels follow the order of the annotation file, where {wrong[1]!r} has the place of {wrong[0]!r}',
            f'order metainfo.classes as the file does: {listed(map(repr, found), 12)}',
        )
