"""Areas of classes beside counts of each value."""

import numpy as np
import pytest
import torch

from mmplugins.evaluation.functional import class_areas


def counted(prediction, label, num_classes, ignore_index):
    valid = label != ignore_index
    return [
        [int((valid & first & second).sum()) for first, second in pairs]
        for pairs in (
            [(prediction == c, label == c) for c in range(num_classes)],
            [(prediction == c, valid) for c in range(num_classes)],
            [(label == c, valid) for c in range(num_classes)],
        )
    ]


@pytest.mark.parametrize('dtypes', [(torch.int64, torch.int64), (torch.uint8, torch.int16)])
@pytest.mark.parametrize('ignore_index', [255, 2, -1])
@pytest.mark.parametrize('num_classes', [1, 4, 300])
def test_equals_counts_of_each_value(num_classes, ignore_index, dtypes):
    """Also of values that are no class, in either map."""
    generator = np.random.default_rng(0)
    prediction, label = (generator.integers(-2 * (dtype != torch.uint8), 9, (40, 50)) for dtype in dtypes)
    label[:3] = ignore_index
    maps = [torch.from_numpy(values).to(dtype) for values, dtype in zip((prediction, label), dtypes, strict=True)]
    areas = class_areas(*maps, num_classes, ignore_index)
    assert [area.tolist() for area in areas] == counted(prediction, label, num_classes, ignore_index)
    assert all(area.dtype == torch.int64 for area in areas)
    swapped = class_areas(*(one.T for one in maps), num_classes, ignore_index)  # any layout in memory
    assert [area.tolist() for area in swapped] == [area.tolist() for area in areas]


def test_the_last_class_may_be_the_largest_value_of_its_dtype():
    values = torch.tensor([[255, 254, 255]], dtype=torch.uint8)
    areas = class_areas(values, values, 256, ignore_index=-100)
    assert areas.intersection[254:].tolist() == [1, 2]


def test_more_pixels_than_float32_counts():
    """2^24 + 1 pixels of a class, where torch.histc on one thread stops at 2^24."""
    label = torch.zeros(2**24 + 5, dtype=torch.uint8)
    label[:4] = 1
    areas = class_areas(label, label, 2)
    assert areas.labelled.tolist() == [2**24 + 1, 4]
    assert areas.intersection.tolist() == [2**24 + 1, 4]


def test_empty_maps():
    empty = torch.zeros(0, 4, dtype=torch.int64)
    assert [area.tolist() for area in class_areas(empty, empty, 3)] == [[0, 0, 0]] * 3


def test_maps_of_different_shapes_raise():
    with pytest.raises(ValueError, match=r'one shape, got \(4, 5\) and \(8, 5\)'):
        class_areas(torch.zeros(4, 5).long(), torch.zeros(8, 5).long(), 3)
