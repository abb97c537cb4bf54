import pytest
import torch
import torch.nn.functional as F

from mmplugins.functional.sets.losses import (
    box_losses,
    cardinality_error,
    class_error,
    classification_loss,
    matched_classes,
    name_by_layer,
)
from mmplugins.functional.sets.pairs import pack_pairs

CPU = torch.device('cpu')


def pair(query: list[int], index: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(query, dtype=torch.int64), torch.tensor(index, dtype=torch.int64)


# One layer, two images of two queries and one object each.
ONE = pack_pairs([[pair([1], [0]), pair([0], [0])]], 2, [1, 1], CPU)


def test_matched_classes():
    classes = matched_classes(torch.tensor([2, 0]), ONE, (1, 2, 2), 3)
    assert classes.tolist() == [[[3, 2], [0, 3]]]


def test_classification_by_hand():
    """Four uniform predictions of 4 classes: ln 4 each, of weight 0.1, 1, 1, 0.1; the weighted mean is ln 4."""
    logits = torch.zeros(1, 2, 2, 4)
    classes, weight = torch.tensor([[[3, 2], [0, 3]]]), torch.tensor([1, 1, 1, 0.1])
    ln4 = torch.tensor([4.0]).log()
    torch.testing.assert_close(classification_loss(logits, classes, weight), ln4)
    torch.testing.assert_close(classification_loss(logits, classes, weight, 11.0), 0.2 * ln4)


def test_classification_equals_cross_entropy_layer_by_layer():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 5, 4, generator=generator, dtype=torch.float64)
    classes = torch.randint(0, 4, (3, 2, 5), generator=generator)
    weight = torch.tensor([1, 2, 1, 0.1], dtype=torch.float64)
    for value, one, label in zip(classification_loss(logits, classes, weight), logits, classes, strict=True):
        torch.testing.assert_close(value, F.cross_entropy(one.flatten(0, 1), label.flatten(), weight))


def test_classification_without_weight_is_zero_and_attached():
    logits = torch.zeros(1, 2, 2, 4, requires_grad=True)
    value = classification_loss(logits, torch.full((1, 2, 2), 3), torch.tensor([1.0, 1, 1, 0]))
    assert value.tolist() == [0]
    assert value.requires_grad


def test_boxes_by_hand():
    """Image 0: the box (0,0,2,2) of a target (0,0,1,1), in tenths: L1 .05+.05+.1+.1, IoU 1/4, no more to enclose.

    Image 1: squares of side .1 side by side with a gap of .1: L1 .2, IoU 0, enclosed .03 of which .02 are boxes.
    Sums .5 and 3/4 + 4/3, over an average of 2.
    """
    boxes = torch.tensor([[[[0.9] * 4, [0.1, 0.1, 0.2, 0.2]], [[0.35, 0.35, 0.1, 0.1], [0.9] * 4]]])
    target = torch.tensor([[0.05, 0.05, 0.1, 0.1], [0.15, 0.35, 0.1, 0.1]])
    distance, overlap = box_losses(boxes.requires_grad_(), target, ONE, 2)
    torch.testing.assert_close(distance, torch.tensor([0.25]))
    torch.testing.assert_close(overlap, torch.tensor([(3 / 4 + 4 / 3) / 2]))
    (distance + overlap).sum().backward()
    assert torch.count_nonzero(boxes.grad[0, 0, 0]) == 0
    assert torch.count_nonzero(boxes.grad[0, 0, 1]) == 4


def test_layers_of_different_numbers_of_pairs():
    pairs = pack_pairs([[pair([0, 1], [1, 0])], [pair([], [])], [pair([1], [1])]], 2, [2], CPU)
    boxes = torch.rand(3, 1, 2, 4, generator=torch.Generator().manual_seed(0))
    distance, overlap = box_losses(boxes, boxes[0, 0], pairs, 1)
    expected = (boxes[0, 0] - boxes[0, 0].flip(0)).abs().sum()
    torch.testing.assert_close(
        distance, torch.stack((expected, torch.tensor(0.0), (boxes[2, 0, 1] - boxes[0, 0, 1]).abs().sum()))
    )
    assert overlap[1] == 0


def test_no_pairs_is_zero_and_attached():
    pairs = pack_pairs([[pair([], [])]] * 2, 3, [0], CPU)
    boxes = torch.rand(2, 1, 3, 4, requires_grad=True)
    distance, overlap = box_losses(boxes, torch.zeros(0, 4), pairs, 1)
    assert distance.tolist() == overlap.tolist() == [0, 0]
    (distance + overlap).sum().backward()
    assert torch.equal(boxes.grad, torch.zeros_like(boxes))


def test_class_error_by_hand():
    """Of the two matched queries one is right."""
    classes = torch.tensor([[3, 2], [0, 3]])
    assert float(class_error(torch.tensor([[3, 2], [1, 3]]), classes, 3, 2)) == 50
    assert float(class_error(classes, classes, 3, 2)) == 0
    assert float(class_error(classes, torch.full_like(classes, 3), 3, 0)) == 100


def test_cardinality_error_by_hand():
    """One and two predictions that are not no-object, two and zero objects: (1 + 2) / 2."""
    predicted = torch.tensor([[3, 2, 3], [0, 3, 1]])
    assert float(cardinality_error(predicted, torch.tensor([2, 0]), 3)) == 1.5


def test_names_are_the_toolbox_s():
    values = {'loss_cls': torch.tensor([1.0, 2, 3]), 'loss_mask': torch.tensor([4.0])}
    named = [(name, float(value)) for name, value in name_by_layer(values, 3).items()]
    assert named == [('loss_cls', 3), ('loss_mask', 4), ('d0.loss_cls', 1), ('d1.loss_cls', 2)]


@pytest.mark.parametrize('name', ['labels', 'boxes'])
def test_gradcheck(name):
    generator = torch.Generator().manual_seed(0)
    pairs = pack_pairs([[pair([0, 1], [1, 0])], [pair([2], [1])]], 3, [2], CPU)
    if name == 'labels':
        classes = matched_classes(torch.tensor([2, 0]), pairs, (2, 1, 3), 3)
        weight = torch.tensor([1, 1, 1, 0.1], dtype=torch.float64)
        logits = torch.randn(2, 1, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: classification_loss(x, classes, weight), logits)
    else:
        boxes = torch.rand(2, 1, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        target = torch.rand(2, 4, generator=generator, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda x: box_losses(x, target, pairs, 3.0), boxes)
