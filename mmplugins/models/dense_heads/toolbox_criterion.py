"""``SetCriterion`` with mmdet's averages, for heads that take mmdet's place.

Differences of mmdet from the released codes, kept here: box and mask losses are divided by the number of matched
pairs, not of objects (the same unless objects outnumber queries); costs see boxes in pixels.
"""

from collections.abc import Mapping, Sequence

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmplugins.models.losses.set_criterion import SetCriterion


class ToolboxCriterion(SetCriterion):
    """The criterion of a head over mmdet's.

    Args:
        class_weight: Weight of each class, no-object last, C+1 numbers.
        bg_cls_weight: Weight of no-object in what DETR's cross entropy is divided by: pairs + bg_cls_weight * others,
            at least 1; None: the sum of the weights, as mmdet's MaskFormer heads divide.
        sync_cls_avg_factor: Whether that number is averaged over ranks.
        **settings: Arguments of ``SetCriterion``.
    """

    def __init__(
        self,
        class_weight: Sequence[float],
        bg_cls_weight: float | None = None,
        sync_cls_avg_factor: bool = False,
        **settings,
    ) -> None:
        super().__init__(**settings)
        self.class_weight = torch.as_tensor(class_weight, dtype=torch.float32)
        self.bg_cls_weight = bg_cls_weight
        self.sync_cls_avg_factor = sync_cls_avg_factor

    def cost_units(self, img_metas: Sequence[Mapping]) -> Sequence[Tensor] | None:
        """Gives the size of each image in pixels, which the head put into ``box_unit``."""
        return [meta['box_unit'] for meta in img_metas] if 'boxes' in self.losses else None

    def label_avg_factor(self, num_pairs: Tensor | int, num_predictions: int) -> Tensor | float | None:
        """Gives what a layer's cross entropy is divided by."""
        if self.bg_cls_weight is None:
            return None
        factor = num_pairs + (num_predictions - num_pairs) * self.bg_cls_weight
        if not isinstance(factor, Tensor):
            return max(factor, 1)
        if self.sync_cls_avg_factor:
            all_reduce(factor, 'mean')
        return factor.clamp(min=1)

    def object_count(self, num_objects: Tensor | int, num_pairs: Tensor | int, num_empty: int) -> Tensor | int:
        """Gives the number of matched pairs."""
        return num_pairs
