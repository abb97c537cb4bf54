"""Mask2Former's and MaskFormer's heads for semantic segmentation with mmseg, over mmseg's heads, which are mmdet's.

Papers: Mask2Former (CVPR 2022), MaskFormer (NeurIPS 2021). Differences from mmseg's ``Mask2FormerHead`` and
``MaskFormerHead``: those of our heads for mmdet; the masks of the classes are bool, and found in one copy to the host
for the whole batch; a label that is no class raises with the image's name.
"""

import torch
from mmseg.models.decode_heads import Mask2FormerHead as ToolboxMask2FormerSegHead
from mmseg.models.decode_heads import MaskFormerHead as ToolboxMaskFormerSegHead
from mmseg.utils import SampleList
from torch import Tensor

from mmplugins.functional.device import upload
from mmplugins.functional.masks.classes import class_masks, present_classes
from mmplugins.models.dense_heads.mask2former_head import PointSetHead
from mmplugins.models.dense_heads.maskformer_head import DenseSetHead
from mmplugins.registry import MODELS


class SemanticSetHead:
    """To stand before ``MaskSetHead`` among the bases of a head over mmseg's."""

    def targets(self, batch_data_samples: SampleList) -> list[dict[str, Tensor]]:
        """Returns the targets of the criterion: a mask of each class of each image.

        Args:
            batch_data_samples: For each image ``gt_sem_seg``, (1, H, W).

        Returns:
            For each image ``labels`` (n,), ``masks``, bool (n, H, W), and, if ``ignore_aware``, ``valid``, bool (H, W).

        Raises:
            ValueError: A label is no class.
        """
        maps = [sample.gt_sem_seg.data.squeeze(0) for sample in batch_data_samples]
        targets = []
        found = present_classes(maps, self.num_classes, self.ignore_index)
        for index, (label, (classes, others)) in enumerate(zip(maps, found, strict=True)):
            sample = batch_data_samples[index]
            if isinstance(self, ToolboxMaskFormerSegHead):  # mmdet's forward asks for it
                sample.set_metainfo({'batch_input_shape': sample.metainfo['img_shape']})
            if others:
                known = {*range(self.num_classes), self.ignore_index}
                wrong = [value for value in label.unique().tolist() if value not in known]
                raise ValueError(
                    f'{sample.metainfo.get("img_path") or f"image {index} of the batch"} has the labels {wrong[:10]}, '
                    f'but there are {self.num_classes} classes, so labels must lie in 0..{self.num_classes - 1} or be '
                    f'ignore_index={self.ignore_index}; check num_classes, reduce_zero_label and the data set'
                )
            labels = upload(torch.tensor(classes, dtype=label.dtype), label.device)
            targets.append({'labels': labels, 'masks': class_masks(label, classes)})
            if self.ignore_aware:
                targets[-1]['valid'] = label != self.ignore_index
        return targets


@MODELS.register_module()
class Mask2FormerSegHead(SemanticSetHead, PointSetHead, ToolboxMask2FormerSegHead):
    """Mask2Former's head for mmseg's EncoderDecoder: mmseg's arguments, outputs and losses, with bool masks.

    Everything else is as in ``mmplugins.Mask2FormerHead``; it needs mmdet too.

    Args:
        *args: What mmseg's Mask2FormerHead takes.
        ignore_aware: Whether pixels labelled ``ignore_index`` are ignored in matching, sampling and losses; that
            includes the padding, which mmseg labels so.
        **kwargs: What mmseg's Mask2FormerHead takes: ``num_classes``, ``align_corners``, ``ignore_index``, and what
            mmdet's takes, ``train_cfg`` included; configs as plain dicts too.

    Shape:
        - x: features (B, C, h, w), one for each of ``in_channels``.
        - Returns what mmseg's head returns: in training the losses ``loss_cls``, ``loss_mask``, ``loss_dice``,
          ``d{i}.loss_*`` of the layers before the last, and ``class_error`` in percent, for the log; in inference
          (B, C, H, W).

    Raises:
        ValueError: ``class_weight`` does not fit; in ``loss``: a label is no class.
    """


@MODELS.register_module()
class MaskFormerSegHead(SemanticSetHead, DenseSetHead, ToolboxMaskFormerSegHead):
    """MaskFormer's head for mmseg's EncoderDecoder: mmseg's arguments, outputs and losses, with bool masks.

    Everything else is as in ``mmplugins.MaskFormerHead``; it needs mmdet too.

    Args:
        *args: What mmseg's MaskFormerHead takes.
        ignore_aware: Whether pixels labelled ``ignore_index`` are ignored in matching and losses; that includes the
            padding, which mmseg labels so.
        **kwargs: What mmseg's MaskFormerHead takes: ``num_classes``, ``align_corners``, ``ignore_index``, and what
            mmdet's takes, ``train_cfg`` included; configs as plain dicts too.

    Shape:
        - x: features (B, C, h, w), one for each of ``in_channels``.
        - Returns what mmseg's head returns: in training the losses ``loss_cls``, ``loss_mask``, ``loss_dice``,
          ``d{i}.loss_*`` of the layers before the last, and ``class_error`` in percent, for the log; in inference
          (B, C, H, W).

    Raises:
        ValueError: ``class_weight`` does not fit; in ``loss``: a label is no class.
    """
