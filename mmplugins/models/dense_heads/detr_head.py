"""DETR's head over mmdet's, with the matching and the losses of all decoder layers at once.

Paper: DETR (ECCV 2020); released code: models/detr.py; mmdet: ``DETRHead``. Differences from mmdet's head: the log has
``class_error`` and ``cardinality_error``; an invalid ground-truth box or label raises with the image's name; the
config of a loss is not changed in place.
"""

from collections.abc import Sequence
from numbers import Real

import torch
from mmdet.models.dense_heads import DETRHead as ToolboxDETRHead
from mmdet.structures import SampleList
from mmdet.structures.bbox import get_box_tensor
from mmdet.utils import ConfigType, InstanceList, OptInstanceList, OptMultiConfig
from torch import Tensor

from mmplugins.functional.device import upload
from mmplugins.functional.sets.boxes import xyxy_to_cxcywh
from mmplugins.models.losses.averages import DETRHeadAverages
from mmplugins.models.losses.set_criterion import SetCriterion
from mmplugins.registry import MODELS

from .set_head import SetHead

LOSS_CLS = {
    'type': 'CrossEntropyLoss',
    'use_sigmoid': False,
    'loss_weight': 1.0,
    'class_weight': 1.0,
    'bg_cls_weight': 0.1,
}
LOSS_BBOX = {'type': 'L1Loss', 'loss_weight': 5.0}
LOSS_IOU = {'type': 'GIoULoss', 'loss_weight': 2.0}
MATCH_COSTS = [
    {'type': 'mmplugins.ClassificationCost', 'weight': 1.0},
    {'type': 'mmplugins.BBoxL1Cost', 'weight': 5.0, 'box_format': 'xywh'},
    {'type': 'mmplugins.IoUCost', 'iou_mode': 'giou', 'weight': 2.0},
]
TRAIN_CFG = {'assigner': {'type': 'mmplugins.BatchHungarianAssigner', 'match_costs': MATCH_COSTS}}
TEST_CFG = {'max_per_img': 100}


@MODELS.register_module()
class DETRHead(SetHead, ToolboxDETRHead):
    """DETR's head: mmdet's arguments, outputs and losses.

    ``loss_by_feat`` goes through ``SetCriterion``. Where that would not give what mmdet gives, it goes mmdet's own way,
    layer by layer and image by image, and says so once in the log: with an assigner that has no ``assign_batch``,
    with other losses than softmax cross entropy, L1 and GIoU, or if a subclass overrides a step of mmdet's loss.

    Args:
        num_classes: Number of classes without no-object.
        embed_dims: Channels of the decoder's output.
        num_reg_fcs: Hidden layers of the box branch.
        sync_cls_avg_factor: Whether what the classification loss is divided by is averaged over ranks.
        loss_cls: Config of the classification loss; softmax cross entropy of weight 1 by default. ``class_weight`` is
            the weight of all classes, 1, ``bg_cls_weight`` that of no-object, 0.1.
        loss_bbox: Config of the box loss; L1 of weight 5 by default.
        loss_iou: Config of the overlap loss; GIoU of weight 2 by default.
        train_cfg: ``assigner``: its config; by default ``BatchHungarianAssigner`` with DETR's costs, class 1, L1 5 and
            GIoU 2. Costs see boxes x1,y1,x2,y2 in pixels.
        test_cfg: ``max_per_img``: how many detections an image gives, 100, at most the number of queries.
        init_cfg: How to initialise.

    Shape:
        - hidden_states: (L, B, Q, embed_dims) for L decoder layers, B images, Q queries.
        - Returns what mmdet's head returns; losses ``loss_cls``, ``loss_bbox``, ``loss_iou``, and ``d{i}.loss_*`` of
          the layers before the last; ``class_error`` in percent and ``cardinality_error`` are logged only.

    Raises:
        ValueError: A ground-truth label or box is invalid; see ``SetCriterion``.
        TypeError: ``class_weight`` or ``bg_cls_weight`` is not a number.
    """

    toolbox = ToolboxDETRHead
    steps = ('loss_by_feat_single', 'get_targets', '_get_targets_single')
    equal = {'loss_cls': 'softmax_cross_entropy', 'loss_bbox': 'l1', 'loss_iou': 'giou'}

    def __init__(
        self,
        num_classes: int,
        embed_dims: int = 256,
        num_reg_fcs: int = 2,
        sync_cls_avg_factor: bool = False,
        loss_cls: ConfigType = LOSS_CLS,
        loss_bbox: ConfigType = LOSS_BBOX,
        loss_iou: ConfigType = LOSS_IOU,
        train_cfg: ConfigType | None = TRAIN_CFG,
        test_cfg: ConfigType = TEST_CFG,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        loss_cls, class_weight, bg_cls_weight = _class_weights(loss_cls, num_classes)
        super().__init__(
            num_classes=num_classes,
            embed_dims=embed_dims,
            num_reg_fcs=num_reg_fcs,
            sync_cls_avg_factor=sync_cls_avg_factor,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            loss_iou=loss_iou,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )
        self.bg_cls_weight = bg_cls_weight
        self.criterion = None
        if train_cfg:
            self.criterion = SetCriterion(
                num_classes=num_classes,
                assigner=self.assigner,
                class_weight=class_weight,
                averages=DETRHeadAverages(bg_cls_weight, sync_cls_avg_factor),
            )

    def targets(self, batch_data_samples: SampleList) -> list[dict[str, Tensor]]:
        """Returns the targets of the criterion.

        Args:
            batch_data_samples: For each image ``gt_instances``, see ``loss_by_feat``, and ``img_shape``.

        Returns:
            For each image ``labels`` (G,) and ``boxes`` (G, 4), cx,cy,w,h, normalised.
        """
        instances = [sample.gt_instances for sample in batch_data_samples]
        return _targets(instances, [sample.metainfo for sample in batch_data_samples])[0]

    def loss_by_feat(
        self,
        all_layers_cls_scores: Tensor,
        all_layers_bbox_preds: Tensor,
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict[str, Tensor]:
        """Computes the losses of all decoder layers.

        Args:
            all_layers_cls_scores: Logits (L, B, Q, C+1).
            all_layers_bbox_preds: Boxes (L, B, Q, 4), cx,cy,w,h, normalised.
            batch_gt_instances: For each image ``labels`` (G,) and ``bboxes`` (G, 4), x1,y1,x2,y2 in pixels.
            batch_img_metas: For each image ``img_shape``, height and width in pixels.
            batch_gt_instances_ignore: Must be None; ignored objects are not supported.

        Returns:
            The losses, see the class.
        """
        if batch_gt_instances_ignore is not None:
            raise ValueError(
                'DETRHead has no use for batch_gt_instances_ignore; take the ignored boxes out of the data'
            )
        problem = self.why_toolbox()
        if problem is not None:
            self.tell_once(problem)
            return super().loss_by_feat(
                all_layers_cls_scores, all_layers_bbox_preds, batch_gt_instances, batch_img_metas
            )
        targets, box_units = _targets(batch_gt_instances, batch_img_metas)
        self.update_criterion(self.equal)
        outputs = {'logits': all_layers_cls_scores, 'boxes': all_layers_bbox_preds}
        return self.criterion(outputs, targets, batch_img_metas, box_units=box_units)

    def why_toolbox(self) -> str | None:
        """Returns why ``SetCriterion`` would not compute what this head's losses do; None if it would."""
        if not hasattr(self.assigner, 'assign_batch'):
            return f'{type(self.assigner).__name__} has no assign_batch, use mmplugins.BatchHungarianAssigner'
        other = [name for name in self.equal if name not in self.built_in_losses()]
        if other:
            losses = {name: type(getattr(self, name)).__name__ for name in other}
            return f"not mmdet's own softmax cross entropy, L1 and GIoU loss with reduction='mean': {losses}"
        return super().why_toolbox()


def _class_weights(loss_cls: ConfigType, num_classes: int) -> tuple[dict, Tensor, float]:
    """Reads the class weights of a loss as mmdet's head does.

    Returns:
        The config that builds the loss, the weights (C+1,), and the weight of no-object in the average.

    Raises:
        TypeError: A weight is not a number.
    """
    loss_cls = {**loss_cls}
    weights = torch.ones(num_classes + 1)
    class_weight = loss_cls.get('class_weight')
    if class_weight is None:
        return loss_cls, weights, 0.0
    bg_cls_weight = loss_cls.pop('bg_cls_weight', class_weight)
    for name, value in (('class_weight', class_weight), ('bg_cls_weight', bg_cls_weight)):
        if not isinstance(value, Real):
            raise TypeError(f'{name} of loss_cls must be a number, got {type(value).__name__}; all classes share one')
    weights *= class_weight
    weights[-1] = bg_cls_weight
    loss_cls['class_weight'] = weights
    return loss_cls, weights, float(bg_cls_weight)


def _targets(instances: InstanceList, img_metas: Sequence[dict]) -> tuple[list[dict[str, Tensor]], Tensor]:
    """Returns labels and normalised boxes of each image, and width, height, width, height of each in pixels, (B, 4)."""
    counts = [len(one.labels) for one in instances]
    boxes = torch.cat([get_box_tensor(one.bboxes) for one in instances])
    sizes = torch.tensor([[meta['img_shape'][1], meta['img_shape'][0]] * 2 for meta in img_metas], dtype=torch.float32)
    packed = torch.cat((sizes, sizes.repeat_interleave(torch.tensor(counts), 0)))  # of images, then of objects
    image_units, object_units = upload(packed, boxes.device).split([len(counts), sum(counts)])
    boxes = xyxy_to_cxcywh(boxes / object_units).split(counts)
    return [{'labels': one.labels, 'boxes': box} for one, box in zip(instances, boxes, strict=True)], image_units
