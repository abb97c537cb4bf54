"""What the tests of DETR's head share: heads of mmdet and ours of the same weights, and random batches."""

import torch
from mmdet.models.dense_heads import DETRHead as ToolboxDETRHead
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmplugins.models.dense_heads import DETRHead

TOOLBOX_COSTS = [
    dict(type='ClassificationCost', weight=1.0),
    dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
    dict(type='IoUCost', iou_mode='giou', weight=2.0),
]
OUR_COSTS = [{**cost, 'type': f'mmplugins.{cost["type"]}'} for cost in TOOLBOX_COSTS]
LOSS_CLS = dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0, class_weight=1.0, bg_cls_weight=0.1)


def toolbox_head(num_classes: int = 5, **settings) -> nn.Module:
    """mmdet's head, 16 channels wide."""
    train_cfg = dict(assigner=dict(type='HungarianAssigner', match_costs=TOOLBOX_COSTS))
    settings = {'loss_cls': dict(LOSS_CLS), 'train_cfg': train_cfg, **settings}
    with DefaultScope.overwrite_default_scope('mmdet'):
        return ToolboxDETRHead(num_classes, embed_dims=16, **settings)


def our_head(like: nn.Module, cls: type = DETRHead, **settings) -> nn.Module:
    """Our head with the weights of another."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = cls(like.num_classes, embed_dims=16, **settings)
    head.load_state_dict(like.state_dict())
    return head


def batch(
    counts: tuple[int, ...], num_classes: int = 5, layers: int = 3, queries: int = 8, seed: int = 0
) -> tuple[Tensor, list[InstanceData], list[dict]]:
    """Random decoder outputs, objects (these many an image) and meta information of images of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    instances, metas = [], []
    for index, count in enumerate(counts):
        height, width = torch.randint(200, 800, (2,), generator=generator).tolist()
        centre = 0.2 + 0.6 * torch.rand(count, 2, generator=generator)
        half = 0.02 + 0.15 * torch.rand(count, 2, generator=generator)
        boxes = torch.cat((centre - half, centre + half), 1) * torch.tensor([width, height, width, height])
        labels = torch.randint(0, num_classes, (count,), generator=generator)
        instances.append(InstanceData(bboxes=boxes, labels=labels))
        metas.append(
            {'img_shape': (height, width), 'scale_factor': (0.5, 0.5), 'img_path': f'{index}.jpg', 'ori_shape': (9, 9)}
        )
    return torch.randn(layers, len(counts), queries, 16, generator=generator), instances, metas


def losses_and_gradients(head: nn.Module, hidden: Tensor, instances: list, metas: list) -> tuple[dict, list[Tensor]]:
    """Losses by name, and the gradients of their sum to the decoder's output and to the weights."""
    hidden = hidden.clone().requires_grad_()
    losses = head.loss_by_feat(*head(hidden), instances, metas)
    total = sum(value for name, value in losses.items() if 'loss' in name)
    return losses, list(torch.autograd.grad(total, [hidden, *head.parameters()]))
