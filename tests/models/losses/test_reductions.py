"""Values of every loss under every reduction, by hand."""

import math

import pytest
import torch

from mmplugins.registry import MODELS

LOG2 = math.log(2)
IOU = 2 / 3  # of zero logits and one foreground pixel of two: I = 1/2, U = 1 + 1 - 1/2
MASKS = torch.tensor([[[True, False]], [[False, False]]])  # the IoU loss of an empty mask is 1


def two_images():
    """Zero logits of two classes over two pixels of class 0, I = 1 and U = 2; and a right prediction."""
    logits = torch.zeros(2, 2, 1, 2)
    logits[1, 0] = 200.0
    return logits, torch.zeros(2, 1, 2, dtype=torch.long)


def three_pixels():
    """The first pixel is easy, the others are even, the last one is ignored."""
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 0, 0, 0] = 5.0
    return logits, torch.tensor([[[0, 0, 1, 255]]])


@pytest.mark.parametrize('overridden', [False, True])
@pytest.mark.parametrize(
    ('settings', 'example', 'elements', 'count'),
    [
        (dict(type='OhemCrossEntropyLoss', min_kept=1), three_pixels(), [0, LOG2, LOG2, 0], 2),
        (
            dict(type='OhemCrossEntropyLoss', min_kept=1, class_weight=[1.0, 2.0]),
            three_pixels(),
            [0, LOG2, 2 * LOG2, 0],
            3,
        ),
        (
            dict(type='TopKCrossEntropyLoss', top_k_percent_pixels=0.5, hard_example_mining_step=0),
            three_pixels(),
            [0, LOG2, LOG2, 0],
            2,
        ),
        (dict(type='SoftJaccardLoss'), two_images(), [0.5, 0], 2),
        (dict(type='SoftIoULoss'), (torch.zeros(2, 1, 1, 2), MASKS), [IOU, 1], 2),
        (dict(type='BCEIoULoss'), (torch.zeros(2, 1, 1, 2), MASKS), [LOG2 + IOU, LOG2 + 1], 2),
        (dict(type='StructureLoss', edge_weight=0.0), (torch.zeros(2, 1, 1, 2), MASKS), [LOG2 + IOU, LOG2 + 1], 2),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_by_hand(settings, example, elements, count, overridden):
    expected = dict(none=elements, sum=[sum(elements)], mean=[sum(elements) / count])
    for reduction, values in expected.items():
        if overridden:
            loss, call = MODELS.build(settings | dict(loss_weight=3.0)), dict(reduction_override=reduction)
        else:
            loss, call = MODELS.build(settings | dict(loss_weight=3.0, reduction=reduction)), {}
        found = loss(*example, **call).flatten()
        torch.testing.assert_close(found, 3 * torch.tensor(values, dtype=torch.float32), rtol=1e-5, atol=1e-6)
