"""Mask2Former's head over mmdet's, with the matching and the losses of all decoder layers at once.

Paper: Mask2Former (CVPR 2022); released code: criterion.py, matcher.py; mmdet: ``Mask2FormerHead``. Differences from
mmdet's head: ground-truth masks stay bool; which random points are drawn from a seed; an invalid label, or masks of
another size than the padded input, raise with the image's name; pixels can be left out.
"""

from mmdet.models.dense_heads import Mask2FormerHead as ToolboxMask2FormerHead
from mmdet.models.losses import CrossEntropyLoss
from torch import nn

from mmplugins.models.losses.point_sampled_mask_loss import PointSampledMaskLoss
from mmplugins.registry import MODELS

from .mask_criterion import BorrowedLoss
from .mask_set_head import MaskSetHead


class PointSetHead(MaskSetHead):
    """Compares masks on sampled points; see the base class."""

    toolbox = ToolboxMask2FormerHead

    def build_mask_loss(self, loss_mask: BorrowedLoss | None, loss_dice: BorrowedLoss | None) -> nn.Module:
        """Builds the mask loss."""
        return PointSampledMaskLoss(
            self.num_points, self.oversample_ratio, self.importance_sample_ratio, loss_mask, loss_dice
        )

    def knows_loss_mask(self) -> bool:
        """Whether the loss is binary cross entropy."""
        loss = self.loss_mask
        return (
            type(loss) is CrossEntropyLoss
            and loss.use_sigmoid
            and loss.reduction == 'mean'
            and loss.class_weight is None
            and loss.ignore_index is None
        )


@MODELS.register_module()
class Mask2FormerHead(PointSetHead, ToolboxMask2FormerHead):
    """Mask2Former's head: mmdet's arguments, outputs and losses, several times faster and in a fraction of the memory.

    The losses of all decoder layers go through ``SetCriterion`` and ``PointSampledMaskLoss``. Another ``loss_cls``,
    ``loss_mask`` or ``loss_dice`` than the usual ones is called as mmdet calls it, and an assigner that has no
    ``assign_batch`` layer by layer and image by image. With another sampler than ``MaskPseudoSampler``, or if a
    subclass overrides a step of mmdet's loss, everything goes mmdet's own way; the log says so once.

    Args:
        *args: What mmdet's Mask2FormerHead takes.
        ignore_aware: Whether pixels take no part in matching, sampling and losses that are labelled 255 in
            ``gt_sem_seg``, lie in a mask of ``ignored_instances`` (crowds), or in the padding.
        **kwargs: What mmdet's Mask2FormerHead takes, configs as plain dicts too. ``train_cfg`` holds ``assigner``, for
            speed ``mmplugins.BatchHungarianAssigner`` with our costs, ``sampler``, ``num_points``, 12544,
            ``oversample_ratio``, 3, and ``importance_sample_ratio``, 0.75.

    Shape:
        - x: features (B, C, h, w), one for each of ``in_channels``.
        - Returns what mmdet's head returns: L lists of class logits (B, Q, C+1) and mask logits (B, Q, h, w); the
          losses ``loss_cls``, ``loss_mask``, ``loss_dice``, and ``d{i}.loss_*`` of the layers before the last.

    Raises:
        ValueError: ``class_weight`` does not fit; in ``loss``: a label is out of range, or masks have not the size of
            the padded input.
    """
