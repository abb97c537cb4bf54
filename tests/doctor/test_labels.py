"""Label maps as users have them, and what is said of each; the numbers are counted by hand."""

import numpy as np
import pytest

from mmplugins.doctor.labels import PixelLabels, check_labels
from mmplugins.doctor.report import Report

TWO, SEVEN = ('background', 'building'), tuple('abcdefg')


def told(*maps, names=SEVEN, reduced=False, seen='2 of 9 files'):
    labels, report = PixelLabels(), Report()
    for one in maps:
        labels.add(np.asarray(one))
    check_labels(report, 'train', labels, names, 255, reduced, seen)
    return report.findings


def only(*maps, **settings):
    (finding,) = told(*maps, **settings)
    return finding


def test_shares():
    finding = only([[0, 1, 1, 255]], [[0, 1, 1, 1]], names=TWO)
    assert finding.level == 'ok'
    assert finding.text == 'train: 2 of 9 files: building 62.5%, background 25.0%, 255 (ignored) 12.5%'


def test_soft_masks():
    """0.4 is background, 0.5 and more foreground."""
    assert only(np.array([0, 0.4, 0.5, 1.0]), names=TWO).text.endswith('background 50.0%, building 50.0%')


def test_any_integers():
    labels = PixelLabels()
    labels.add(np.array([[-1, 70000], [3, 3]]))
    assert labels.pixels == {-1: 1, 3: 2, 70000: 1}
    assert labels.files == {-1: 1, 3: 1, 70000: 1}


def test_foreground_stored_as_255():
    """mmsegmentation 1609, 2111."""
    finding = only([0] * 62 + [255] * 38, names=TWO)
    assert finding.level == 'error'
    assert '255 is 38% of the mask pixels and 1 (building) never occurs: foreground stored as 255?' in finding.text
    assert 'write 1 into the files, or load them with mmplugins.BinaryMaskDataset' in finding.mend


def test_reduced_binary_labels():
    """mmsegmentation 964: 0 became 255 and 1 became 0."""
    finding = only([255] * 60 + [0] * 40, names=TWO, reduced=True)
    assert finding.level == 'error'
    assert '255 is 60% of the mask pixels and 1 (building) never occurs: reduce_zero_label?' in finding.text
    assert 'set it to False where 0 is a class' in finding.mend


def test_reduced_labels_of_several_classes():
    """mmsegmentation 1601, 2146, 2245, 2425: the last class never occurs."""
    absent, fine = told([0, 1, 2, 3, 4, 5, 255], reduced=True)
    assert (absent.level, fine.level) == ('warning', 'ok')
    assert 'class 6 (g) never occurs: reduce_zero_label?' in absent.text
    assert 'leave its name out of metainfo.classes and lower num_classes' in absent.mend


def test_files_count_from_one():
    absent, _ = told([1, 2, 3, 4, 5, 6])
    assert absent.level == 'warning'
    assert 'class 0 (a) never occurs: do the files count from 1?' in absent.text
    finding = only([1, 2, 3, 4, 5, 6, 7])
    assert finding.level == 'error'
    assert finding.text.endswith('labels 7 in up to 1 files, the classes are 0 to 6')
    assert 'do the files count from 1? Then set reduce_zero_label=True; else num_classes is at least 8' in finding.mend


@pytest.mark.parametrize(
    ('labels', 'mend'),
    [
        ([0, 1, 2, 50, 100, 150, 200], 'grey values or colours: write class numbers into the annotation files'),
        ([0, 1, 7, 8], 'give metainfo and num_classes 9 classes, or map them with label_map'),
        ([-1, 0, 1], 'map them with label_map'),
    ],
)
def test_labels_outside(labels, mend):
    finding = only(labels)
    assert finding.level == 'error'
    assert 'the classes are 0 to 6' in finding.text
    assert mend in finding.mend


def test_255_where_another_label_is_ignored():
    labels, report = PixelLabels(), Report()
    labels.add(np.array([0, 255]))
    check_labels(report, 'train', labels, TWO, 254, False, 'all 1 files')
    assert 'LoadBinaryMask, unlabelled pixels the ignore_index of head and loss' in report.findings[0].mend


def test_nothing_but_ignored_pixels():
    finding = only([255, 255])
    assert finding.level == 'error'
    assert 'every pixel is 255, which is ignored' in finding.text
    assert 'seg_map_path, reduce_zero_label and label_map' in finding.mend


def test_a_single_label():
    finding = only([0, 0], names=TWO)
    assert finding.level == 'error'
    assert 'all pixels are 0 (background)' in finding.text


def test_much_that_is_ignored():
    finding, _, _ = told([255] * 7 + [0, 1, 2])
    assert finding.level == 'warning'
    assert '255 (ignored) is 70% of the mask pixels' in finding.text


@pytest.mark.parametrize(('seen', 'more'), [('2 of 9 files', True), ('all 9 files', False)])
def test_a_class_that_is_absent(seen, more):
    absent, _ = told([0, 1, 2, 4, 5, 6], seen=seen)
    assert absent.level == 'warning'
    assert absent.text.endswith('class 3 (d) never occurs')
    assert ('look at more files with --files N' in absent.mend) is more
    assert 'a class without a pixel has nan for IoU' in absent.mend
