import pytest
import torch

from mmplugins.functional.masks.classes import class_masks, present_classes


def test_classes_and_their_masks():
    label = torch.tensor([[0, 2, 2], [255, 0, 2]])
    [(classes, others)] = present_classes([label], 3)
    assert (classes, others) == ([0, 2], 0)
    masks = class_masks(label, classes)
    assert masks.dtype == torch.bool
    assert masks.tolist() == [[[True, False, False], [False, True, False]], [[False, True, True], [False, False, True]]]


def test_several_images_of_any_size():
    labels = [torch.full((2, 2), 255), torch.tensor([[1]]), torch.zeros(0, 4, dtype=torch.long)]
    assert present_classes(labels, 2) == [([], 0), ([1], 0), ([], 0)]
    assert present_classes([], 2) == []
    assert class_masks(labels[0], []).shape == (0, 2, 2)


@pytest.mark.parametrize('value', [2, 254, 256, -1, -(2**40)])
def test_labels_that_are_no_class_are_counted(value):
    assert present_classes([torch.tensor([0, value])], 2) == [([0], 1)]


@pytest.mark.parametrize('ignore_index', [255, -1, 1])
def test_ignore_index(ignore_index):
    """Also one that could be a class."""
    assert present_classes([torch.tensor([0, ignore_index, 2])], 3, ignore_index) == [([0, 2], 0)]


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_dtypes(dtype):
    label = torch.tensor([[0, 1, 255]]).to(dtype) if dtype != torch.int16 else torch.tensor([[0, 1, 255]]).short()
    assert present_classes([label], 2) == [([0, 1], 0)]
    assert class_masks(label, [1]).tolist() == [[[False, True, False]]]


def test_floats_are_refused():
    with pytest.raises(TypeError, match=r'must be integers \(class indices\), got torch.float32; call .long\(\)'):
        present_classes([torch.zeros(2, 2)], 2)


def test_writes_into_what_is_given():
    out = torch.ones(2, 1, 2, dtype=torch.bool)
    assert class_masks(torch.tensor([[0, 1]]), [1, 0], out=out) is out
    assert out.tolist() == [[[False, True]], [[True, False]]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
def test_cuda():
    label = torch.randint(0, 300, (64, 64), generator=torch.Generator().manual_seed(0))
    assert present_classes([label.cuda(), label.cuda() % 7], 200) == present_classes([label, label % 7], 200)
