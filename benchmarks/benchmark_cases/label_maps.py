"""Areas of the classes in a predicted and a true label map, of which mIoU is made."""

import torch
from torch import Tensor

from mmplugins.evaluation.functional import class_areas

from ._case import Run, case

IGNORED = 255


@case(
    'class_areas',
    'intersections and areas of all classes of an image',
    small={'size': (360, 480), 'num_classes': 11},
    typical={'size': (1024, 2048), 'num_classes': 19},
    large={'size': (4000, 6000), 'num_classes': 150},
    tolerance=0,
)
def areas_case(device: torch.device, size: tuple[int, int], num_classes: int) -> dict:
    """Blocks of 8 pixels a side, four fifths of the pixels found, some ignored."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(num_classes, [side // 8 for side in size], generator=generator)
    label = cells.repeat_interleave(8, 0).repeat_interleave(8, 1)
    wrong = torch.randint(num_classes, label.shape, generator=generator)
    prediction = torch.where(torch.rand(label.shape, generator=generator) < 0.8, label, wrong)
    label[: size[0] // 50] = IGNORED
    return {'prediction': prediction.to(device), 'label': label.to(device), 'num_classes': num_classes}


@areas_case.contender('ours')
def ours(prediction: Tensor, label: Tensor, num_classes: int) -> Run:
    """Counts pairs of classes in integers."""
    return lambda: [area.double() for area in class_areas(prediction, label, num_classes, IGNORED)]


@areas_case.contender('mmseg', host='mmseg')
def mmseg(prediction: Tensor, label: Tensor, num_classes: int) -> Run:
    """Three histograms of float32."""
    from mmseg.evaluation.metrics import IoUMetric

    def count() -> list[Tensor]:
        areas = IoUMetric.intersect_and_union(prediction, label, num_classes, IGNORED)
        return [areas[index].double() for index in (0, 2, 3)]

    return count
