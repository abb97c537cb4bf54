"""What the labels of pixels look like after the pipeline, and which mistakes that tells of."""

from collections.abc import Sequence

import numpy as np

from .report import Report, listed, more

BACKGROUND_SHARE = 0.5  # of ignored pixels from which on it is told


class PixelLabels:
    """Counts the labels of label maps.

    Attributes:
        pixels: How many pixels have a label, by label.
        files: How many files have a label, by label.
        count: Number of label maps.
    """

    def __init__(self) -> None:
        self.pixels: dict[int, int] = {}
        self.files: dict[int, int] = {}
        self.count = 0

    def add(self, labels: np.ndarray) -> None:
        """Counts a label map, of any shape; soft masks of floats count as 1 from 0.5 on.

        Args:
            labels: Integers, or floats from 0 to 1.
        """
        self.count += 1
        if labels.dtype.kind == 'f':
            rounded = np.rint(labels)
            labels = np.where(np.abs(labels - rounded) > 0, labels >= 0.5, rounded)
        flat = np.ascontiguousarray(labels).reshape(-1).astype(np.int64, copy=False)
        if flat.size and flat.min() >= 0 and flat.max() < 1 << 16:
            numbers = np.bincount(flat)
            values = np.flatnonzero(numbers)
            numbers = numbers[values]
        else:
            values, numbers = np.unique(flat, return_counts=True)
        for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
            self.pixels[value] = self.pixels.get(value, 0) + number
            self.files[value] = self.files.get(value, 0) + 1


def check_labels(
    report: Report, key: str, labels: PixelLabels, names: Sequence[str], ignore: int, reduced: bool, seen: str
) -> None:
    """Says what the labels of pixels tell.

    Args:
        report: Takes the findings, check ``labels``.
        key: Key of the data set.
        labels: What was counted.
        names: Names of the classes.
        ignore: Label of pixels that do not count.
        reduced: Whether the data set has ``reduce_zero_label``.
        seen: How many files were looked at, in words.
    """
    count, total = len(names), sum(labels.pixels.values()) or 1
    share = labels.pixels.get(ignore, 0) / total
    valid = {label: number for label, number in labels.pixels.items() if 0 <= label < count and label != ignore}
    outside = sorted(label for label in labels.pixels if not 0 <= label < count and label != ignore)
    absent = [label for label in range(count) if label not in valid and label != ignore]
    here = f'{key}: {seen}: '
    if outside:
        _tell_outside(report, here, labels, outside, count)
    if not valid:
        report.error(
            'labels',
            f'{here}every pixel is {ignore}, which is ignored' if not outside else f'{here}no pixel has a class',
            'look at the annotation files, and at seg_map_path, reduce_zero_label and label_map',
        )
        return
    if len(valid) == 1 and count > 1 and (share > 0 or count == 2) and not outside:
        _tell_single(report, here, next(iter(valid)), ignore, share, names, reduced)
        return
    if share > BACKGROUND_SHARE:
        report.warning(
            'labels',
            f'{here}{ignore} (ignored) is {share:.0%} of the mask pixels',
            'if that is not padding or unlabelled ground: is the background stored as '
            f'{ignore}, or made so by reduce_zero_label=True?',
        )
    if absent and not outside:
        _tell_absent(report, here, absent, count, names, reduced)
    if not outside:
        parts = [f'{names[label]} {valid[label] / total:.1%}' for label in sorted(valid, key=valid.get, reverse=True)]
        parts += [f'{ignore} (ignored) {share:.1%}'] * bool(share)
        report.ok('labels', here + listed(parts, 30))


def _tell_outside(report: Report, here: str, labels: PixelLabels, outside: list[int], count: int) -> None:
    files = max(labels.files[label] for label in outside)
    if outside == [count] and 0 not in labels.pixels:
        mend = f'do the files count from 1? Then set reduce_zero_label=True; else num_classes is at least {count + 1}'
    elif max(outside) >= 100 and len(outside) > 3:
        mend = 'they look like grey values or colours: write class numbers into the annotation files'
    elif outside == [255]:
        mend = 'a mask of 0 and 255 needs mmplugins.LoadBinaryMask, unlabelled pixels the ignore_index of head and loss'
    else:
        mend = f'give metainfo and num_classes {max(outside) + 1} classes, or map them with label_map'
    report.error(
        'labels', f'{here}labels {listed(outside, 8)} in up to {files} files, the classes are 0 to {count - 1}', mend
    )


def _tell_single(
    report: Report, here: str, label: int, ignore: int, share: float, names: Sequence[str], reduced: bool
) -> None:
    other = listed((f'{i} ({name})' for i, name in enumerate(names) if i != label), 3)
    text = f'{here}{ignore} is {share:.0%} of the mask pixels and {other} never occurs'
    if reduced:
        report.error(
            'labels',
            f'{text}: reduce_zero_label?',
            f'reduce_zero_label=True makes label 0 {ignore} and 1 to 0: set it to False where 0 is a class',
        )
    elif share:
        report.error(
            'labels',
            f'{text}: foreground stored as {ignore}?',
            f'{ignore} is ignored: write 1 into the files, or load them with mmplugins.BinaryMaskDataset and '
            'mmplugins.LoadBinaryMask',
        )
    else:
        report.error(
            'labels',
            f'{here}all pixels are {label} ({names[label]})',
            'look at the annotation files, at seg_map_path, and at the threshold of the masks',
        )


def _tell_absent(report: Report, here: str, absent: list[int], count: int, names: Sequence[str], reduced: bool) -> None:
    shown = listed((f'{label} ({names[label]})' for label in absent), 8)
    text = f'{here}class {shown} never occurs'
    if reduced and absent[-1] == count - 1:
        report.warning(
            'labels',
            f'{text}: reduce_zero_label?',
            'reduce_zero_label=True takes 1 from each label: if 0 in the files is a class, set it to False; if not, '
            'leave its name out of metainfo.classes and lower num_classes',
        )
    elif absent[0] == 0:
        report.warning(
            'labels',
            f'{text}: do the files count from 1?',
            'where 0 in the files means no class, set reduce_zero_label=True and leave it out of metainfo.classes',
        )
    else:
        report.warning(
            'labels',
            text,
            f'{more(here)}a class without a pixel has nan for IoU; its name may be one too many',
        )
