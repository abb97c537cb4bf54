"""What the tests of the set criterion share: scenes, golden cases and an assigner that knows the answer."""

from collections.abc import Mapping

import torch
from torch import Tensor

BOX_COSTS = [
    dict(type='mmplugins.ClassificationCost', weight=1.0),
    dict(type='mmplugins.BBoxL1Cost', box_format='xywh', weight=5.0),
    dict(type='mmplugins.IoUCost', iou_mode='giou', weight=2.0),
]


def hungarian(*costs: dict) -> dict:
    """Config of the assigner with these costs, or with DETR's."""
    return dict(type='mmplugins.BatchHungarianAssigner', match_costs=list(costs or BOX_COSTS))


class GivenAssigner:
    """An assigner that returns the pairs it was given, [layer][image] -> (query, object)."""

    def __init__(self, pairs: list) -> None:
        self.pairs = pairs

    def assign_batch(self, *args, **kwargs) -> list:
        return self.pairs


def golden_pairs(golden: Mapping) -> list:
    """Matched pairs of a golden case, [layer][image] -> (query, object)."""
    layers, images = golden['logits'].shape[:2]
    return [
        [(golden[f'match_query_{i}_{b}'].view(-1), golden[f'match_gt_{i}_{b}'].view(-1)) for b in range(images)]
        for i in range(layers)
    ]


def golden_targets(golden: Mapping) -> list[dict]:
    """Targets of a golden case."""
    targets = []
    for image in range(golden['logits'].shape[1]):
        target = {'labels': golden[f'gt_labels{image}'].view(-1)}
        if f'gt_boxes{image}' in golden:
            target['boxes'] = golden[f'gt_boxes{image}'].view(-1, 4)
        if f'gt_masks{image}' in golden:
            target['masks'] = golden[f'gt_masks{image}']
        targets.append(target)
    return targets


def scene(
    counts: tuple[int, ...] = (3, 0, 1),
    layers: int = 2,
    queries: int = 6,
    classes: int = 4,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """Gives random predictions, which require a gradient, and targets with these numbers of objects."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(*shape: int) -> Tensor:
        centre = 0.2 + 0.6 * torch.rand(*shape, 2, generator=generator, dtype=torch.float64)
        return torch.cat((centre, 0.05 + 0.3 * torch.rand(*shape, 2, generator=generator, dtype=torch.float64)), -1)

    logits = torch.randn(layers, len(counts), queries, classes + 1, generator=generator, dtype=torch.float64)
    outputs = {'logits': 2 * logits, 'boxes': boxes(layers, len(counts), queries)}
    targets = [
        {'labels': torch.randint(0, classes, (count,), generator=generator), 'boxes': boxes(count).to(dtype)}
        for count in counts
    ]
    return {key: value.to(dtype).requires_grad_() for key, value in outputs.items()}, targets


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """Sums as mmengine does: whatever has 'loss' in its name."""
    return sum(value for name, value in losses.items() if 'loss' in name)
