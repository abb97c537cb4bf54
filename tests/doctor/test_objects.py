"""Boxes and objects as users have them, and what is said of each."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from mmplugins.doctor.objects import Objects, check_categories, check_objects
from mmplugins.doctor.report import Report

NAMES = ('cat', 'dog')


def told(boxes=((1, 1, 9, 9),), labels=(0,), masks=None, size=(20, 10), names=NAMES):
    objects, report = Objects(), Report()
    objects.add('a.jpg', np.array(labels, dtype=int), masks)
    objects.add_boxes('a.jpg', np.array(boxes, dtype=float).reshape(-1, 4), size)
    check_objects(report, 'train', objects, names, 'all 1 files')
    return report.findings


def of(check, *args, **kwargs):
    return [finding for finding in told(*args, **kwargs) if finding.check == check]


def test_all_is_well():
    inside, labels = told([(0, 0, 20.5, 10.5), (1, 1, 2, 2)], (0, 1))
    assert inside.text == 'train: all 1 files: all boxes lie inside'
    assert labels.text == 'train: all 1 files: 2 objects: cat 1, dog 1'
    assert {inside.level, labels.level} == {'ok'}


@pytest.mark.parametrize('box', [(5, 5, 25, 9), (5, 5, 9, 12), (-3, 5, 9, 9)])
def test_boxes_outside(box):
    (finding,) = of('boxes', [box])
    assert finding.level == 'warning'
    assert f'1 images have boxes outside the image: a.jpg {[float(x) for x in box]} in 20x10' in finding.text
    assert 'COCO files hold x, y, w, h in pixels' in finding.mend


def test_boxes_of_a_unit_image():
    (finding,) = of('boxes', [(0.1, 0.1, 0.5, 0.9)])
    assert finding.level == 'error'
    assert 'all boxes lie within 0 and 1' in finding.text
    assert 'boxes are in pixels: multiply x by the width' in finding.mend


def test_boxes_without_an_area():
    (finding,) = of('boxes', [(5, 5, 5, 9)])
    assert finding.level == 'warning'
    assert '1 images have boxes without an area, the first a.jpg' in finding.text
    assert 'filter_cfg=dict(min_size=1)' in finding.mend


def test_no_object():
    finding = of('labels', (), ())[0]
    assert finding.level == 'error'
    assert 'no image has an object' in finding.text
    assert 'letter by letter' in finding.mend


def test_labels_outside_and_classes_without_an_object():
    outside = of('labels', labels=(5,))[0]
    assert outside.level == 'error'
    assert 'labels 5, the classes are 0 to 1' in outside.text
    absent = of('labels', labels=(0,))[0]
    assert absent.level == 'warning'
    assert 'no object of 1 of 2 classes: 1 (dog)' in absent.text


def test_masks_without_a_pixel():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, 0, 0] = True
    finding = of('labels', [(1, 1, 9, 9)] * 2, (0, 1), masks)[0]
    assert finding.level == 'warning'
    assert '1 of 2 masks have no pixel after the pipeline' in finding.text
    assert "dict(type='FilterAnnotations', by_mask=True)" in finding.mend


def categories(tmp_path, names, numbers):
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps({'categories': [dict(id=i, name=name) for i, name in enumerate(names)]}))
    report = Report()
    check_categories(report, 'train', SimpleNamespace(cat_ids=numbers, ann_file=str(path)), NAMES)
    return report.findings


def test_categories(tmp_path):
    assert categories(tmp_path, ['cat', 'dog'], [0, 1]) == []
    assert categories(tmp_path, ['other', 'cat', 'dog'], [1, 2]) == []


def test_a_category_spelt_otherwise(tmp_path):
    """mmdetection 9611: the labels after it shift."""
    (finding,) = categories(tmp_path, ['Cat', 'dog'], [1])
    assert finding.level == 'error'
    assert "the annotation file has no category 'cat'; it has 'Cat', 'dog'" in finding.text
    assert 'spell metainfo.classes as the file does' in finding.mend


def test_categories_in_another_order(tmp_path):
    (finding,) = categories(tmp_path, ['dog', 'cat'], [0, 1])
    assert finding.level == 'error'
    assert "order of the annotation file, where 'dog' has the place of 'cat'" in finding.text
    assert "order metainfo.classes as the file does: 'dog', 'cat'" in finding.mend


def test_data_sets_without_categories():
    report = Report()
    check_categories(report, 'train', object(), NAMES)
    assert report.findings == []
