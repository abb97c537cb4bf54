"""Mask2Former's head over mmdet's, with the matching and the losses of all decoder layers at once.

Paper: Mask2Former (CVPR 2022); released code: criterion.py, matcher.py; mmdet: ``Mask2FormerHead``. Differences from
mmdet's head: ground-truth masks stay bool; which random points are drawn from a seed; an invalid label, or masks of
another size than the padded input, raise with the image's name; pixels can be ignored; the log has ``class_error``;
Xavier's initialisation of both decoders is uniform, as in the released code, not normal.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmdet.models.dense_heads import Mask2FormerHead as ToolboxMask2FormerHead
from torch import Tensor, nn

from mmplugins.functional.masks.product import mask_product
from mmplugins.models.losses.point_sampled_mask_loss import PointSampledMaskLoss
from mmplugins.models.losses.toolbox import BorrowedLoss
from mmplugins.registry import MODELS

from .mask_set_head import MaskSetHead


class PointSetHead(MaskSetHead):
    """Compares masks on sampled points; see the base class."""

    toolbox = ToolboxMask2FormerHead
    equal = {'loss_cls': 'softmax_cross_entropy', 'loss_mask': 'binary_cross_entropy', 'loss_dice': 'dice'}

    def build_mask_loss(self, loss_mask: BorrowedLoss | None, loss_dice: BorrowedLoss | None) -> nn.Module:
        """Builds the mask loss."""
        return PointSampledMaskLoss(
            self.num_points, self.oversample_ratio, self.importance_sample_ratio, loss_mask, loss_dice
        )

    def init_weights(self) -> None:
        """Initialises as mmdet does, and then both decoders' attention and feed-forward layers as the released code."""
        super().init_weights()
        attentions = []
        for part in (self.transformer_decoder, self.pixel_decoder.encoder):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
            attentions += [module for module in part.modules() if hasattr(module, 'sampling_offsets')]
        for deformable in attentions:  # these have an initialisation of their own
            deformable.init_weights()

    def _forward_head(
        self, decoder_out: Tensor, mask_feature: Tensor, attn_mask_target_size: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predicts after a decoder layer; mmdet's forward calls it.

        Args:
            decoder_out: Queries, (B, Q, C).
            mask_feature: Features of the pixels, (B, C, h, w).
            attn_mask_target_size: Height and width of the features that the next layer attends to.

        Returns:
            Class logits (B, Q, C+1), mask logits (B, Q, h, w), and where the next layer's heads do not attend, bool
            (B * heads, Q, height * width).
        """
        queries = self.transformer_decoder.post_norm(decoder_out)
        masks = mask_product(self.mask_embed(queries), mask_feature)
        shrunk = F.interpolate(masks.detach(), attn_mask_target_size, mode='bilinear', align_corners=False)
        hidden = (shrunk.sigmoid() < 0.5).flatten(2)  # (B, Q, height * width)
        return self.cls_embed(queries), masks, hidden.repeat_interleave(self.num_heads, 0)


@MODELS.register_module()
class Mask2FormerHead(PointSetHead, ToolboxMask2FormerHead):
    """Mask2Former's head: mmdet's arguments, outputs and losses, with bool masks.

    The losses of all decoder layers go through ``SetCriterion`` and ``PointSampledMaskLoss``. Another ``loss_cls``,
    ``loss_mask`` or ``loss_dice`` than the usual ones is called as mmdet calls it, and an assigner that has no
    ``assign_batch`` layer by layer and image by image. With another sampler than ``MaskPseudoSampler``, or if a
    subclass overrides a step of mmdet's loss, everything goes mmdet's own way; the log says so once.

    Args:
        *args: What mmdet's Mask2FormerHead takes.
        ignore_aware: Whether pixels are ignored in matching, sampling and losses that are labelled 255 in
            ``gt_sem_seg``, lie in a mask of ``ignored_instances`` (crowds), or in the padding.
        **kwargs: What mmdet's Mask2FormerHead takes, configs as plain dicts too. ``train_cfg`` holds ``assigner``,
            best ``mmplugins.BatchHungarianAssigner`` with our costs, ``sampler``, ``num_points``, 12544,
            ``oversample_ratio``, 3, and ``importance_sample_ratio``, 0.75.

    Shape:
        - x: features (B, C, h, w), one for each of ``in_channels``.
        - Returns what mmdet's head returns: L lists of class logits (B, Q, C+1) and mask logits (B, Q, h, w); the
          losses ``loss_cls``, ``loss_mask``, ``loss_dice``, and ``d{i}.loss_*`` of the layers before the last; and
          ``class_error`` in percent, for the log.

    Raises:
        ValueError: ``class_weight`` does not fit; in ``loss``: a label is out of range, or masks have not the size of
            the padded input.
    """
