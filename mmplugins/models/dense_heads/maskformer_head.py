"""MaskFormer's head over mmdet's, with the matching and the losses of all decoder layers at once.

Paper: MaskFormer (NeurIPS 2021); released code: criterion.py, matcher.py; mmdet: ``MaskFormerHead``. Differences from
mmdet's head: ground-truth masks stay bool; an invalid label, or masks of another size than the padded input, raise
with the image's name; pixels can be ignored; the log has ``class_error``; the convolutions of the pixel decoder's two
deepest levels are initialised as the other levels', which mmdet forgets.
"""

from mmdet.models.dense_heads import MaskFormerHead as ToolboxMaskFormerHead
from mmengine.model import caffe2_xavier_init
from torch import nn

from mmplugins.models.losses.dense_mask_loss import DenseMaskLoss
from mmplugins.models.losses.toolbox import BorrowedLoss
from mmplugins.registry import MODELS

from .mask_set_head import MaskSetHead


class DenseSetHead(MaskSetHead):
    """Compares masks on all pixels; see the base class."""

    toolbox = ToolboxMaskFormerHead
    equal = {'loss_cls': 'softmax_cross_entropy', 'loss_mask': 'focal', 'loss_dice': 'dice'}

    def build_mask_loss(self, loss_mask: BorrowedLoss | None, loss_dice: BorrowedLoss | None) -> nn.Module:
        """Builds the mask loss."""
        focal = self.loss_mask if loss_mask is None else None
        settings = {} if focal is None else {'alpha': focal.alpha, 'gamma': focal.gamma}
        return DenseMaskLoss(**settings, loss_mask=loss_mask, loss_dice=loss_dice)

    def init_weights(self) -> None:
        """Initialises as mmdet does, and the levels of the pixel decoder that it leaves out."""
        super().init_weights()
        decoder = self.pixel_decoder
        for module in (decoder.lateral_convs[-1], decoder.output_convs[-1], decoder.last_feat_conv):
            if module is not None:  # an encoder stands in place of the deepest
                caffe2_xavier_init(module.conv, bias=0)


@MODELS.register_module()
class MaskFormerHead(DenseSetHead, ToolboxMaskFormerHead):
    """MaskFormer's head: mmdet's arguments, outputs and losses, with bool masks.

    The losses of all decoder layers go through ``SetCriterion`` and ``DenseMaskLoss``. Another ``loss_cls``,
    ``loss_mask`` or ``loss_dice`` than the usual ones is called as mmdet calls it, and an assigner that has no
    ``assign_batch`` layer by layer and image by image. With another sampler than ``MaskPseudoSampler``, or if a
    subclass overrides a step of mmdet's loss, everything goes mmdet's own way; the log says so once.

    Args:
        *args: What mmdet's MaskFormerHead takes.
        ignore_aware: Whether pixels are ignored in matching and losses that are labelled 255 in ``gt_sem_seg``, lie in
            a mask of ``ignored_instances`` (crowds), or in the padding.
        **kwargs: What mmdet's MaskFormerHead takes, configs as plain dicts too. ``train_cfg`` holds ``assigner``, for
            speed ``mmplugins.BatchHungarianAssigner`` with our costs, and ``sampler``.

    Shape:
        - x: features (B, C, h, w), one for each of ``in_channels``.
        - Returns what mmdet's head returns: class logits (L, B, Q, C+1) and mask logits (L, B, Q, h, w); the losses
          ``loss_cls``, ``loss_mask``, ``loss_dice``, and ``d{i}.loss_*`` of the layers before the last; and
          ``class_error`` in percent, for the log.

    Raises:
        ValueError: ``class_weight`` does not fit; in ``loss``: a label is out of range, or masks have not the size of
            the padded input.
    """
