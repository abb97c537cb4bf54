"""Mask2Former's and MaskFormer's heads for semantic segmentation with mmseg, over mmseg's heads, which are mmdet's.

Papers: Mask2Former (CVPR 2022), MaskFormer (NeurIPS 2021). Differences from mmseg's ``Mask2FormerHead`` and
``MaskFormerHead``: those of our heads for mmdet; the masks of the classes are bool, and found in one copy to the host
for the whole batch; a label that is no class raises with the image's name; a prediction has the size of what the
network saw (mmseg's Mask2Former takes the padded image's for a window of a slide, its MaskFormer the image's for a
padded image); and MaskFormer's padding counts as image, as in the released code, where mmseg's masks of the attention
fit the first image of a training batch only.
"""

from collections.abc import Sequence

import torch
from mmseg.models.decode_heads import Mask2FormerHead as ToolboxMask2FormerSegHead
from mmseg.models.decode_heads import MaskFormerHead as ToolboxMaskFormerSegHead
from mmseg.structures import SegDataSample
from mmseg.utils import ConfigType, SampleList
from torch import Tensor

from mmplugins.functional.device import upload
from mmplugins.functional.masks.class_maps import class_scores
from mmplugins.functional.masks.classes import class_masks, present_classes
from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.models.dense_heads.mask2former_head import PointSetHead
from mmplugins.models.dense_heads.maskformer_head import DenseSetHead
from mmplugins.registry import MODELS


class SemanticSetHead:
    """To stand before ``MaskSetHead`` among the bases of a head over mmseg's; takes what they take."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.num_classes < 2:
            raise ValueError(
                f'{type(self).__name__} tells classes apart at each pixel and needs two or more, got num_classes='
                f'{self.num_classes}; for one kind of object give the background a class too (labels 0 and 1, '
                'num_classes=2, reduce_zero_label=False), or take a head of one channel (PFNetHead)'
            )

    def loss(self, x: Sequence[Tensor], batch_data_samples: SampleList, train_cfg: ConfigType) -> dict[str, Tensor]:
        """Predicts and computes the losses.

        Args:
            x: Features of the backbone or neck, (B, C, h, w) each.
            batch_data_samples: For each image ``gt_sem_seg``, (1, H, W).
            train_cfg: Not used.

        Returns:
            The losses, see the class.
        """
        targets, metas = self.targets(batch_data_samples), [sample.metainfo for sample in batch_data_samples]
        scores, masks = self(x, _samples_of(metas, batch_data_samples[0].gt_sem_seg.data.shape[-2:]))
        return self.loss_by_feat(scores, masks, targets, metas)

    def predict(self, x: Sequence[Tensor], batch_img_metas: list[dict], test_cfg: ConfigType) -> Tensor:
        """Predicts the score of each class at each pixel of the network's input.

        Args:
            x: Features of the backbone or neck, (B, C, h, w) each.
            batch_img_metas: For each image ``img_shape``, and ``pad_shape`` where it was padded; a slide has set the
                first one's ``img_shape`` to its window's size.
            test_cfg: The segmentor's; mode 'slide' says that ``x`` are a window's features.

        Returns:
            (B, classes, H, W), H and W those of the window, or of the padded images.
        """
        return class_scores(*self.predict_queries(x, batch_img_metas, test_cfg))

    def predict_queries(
        self, x: Sequence[Tensor], batch_img_metas: list[dict], test_cfg: ConfigType
    ) -> tuple[Tensor, UpsampledLogits]:
        """Predicts what ``predict`` makes its map of.

        Args:
            x: See ``predict``.
            batch_img_metas: See ``predict``.
            test_cfg: See ``predict``.

        Returns:
            Scores of each query and class, (B, Q, C), and mask logits that stand for those of the size of the
            network's input, (B, Q, H, W).
        """
        first = batch_img_metas[0]
        window = (test_cfg or {}).get('mode') == 'slide'
        size = tuple(first['img_shape'] if window else first.get('pad_shape', first['img_shape']))[:2]
        scores, masks = self(x, _samples_of(batch_img_metas, size))
        return scores[-1].softmax(-1)[..., :-1], UpsampledLogits(masks[-1], size)

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
            if others:
                known = {*range(self.num_classes), self.ignore_index}
                wrong = [value for value in label.unique().tolist() if value not in known]
                name = batch_data_samples[index].get('img_path') or f'image {index} of the batch'
                raise ValueError(
                    f'{name} has the labels {wrong[:10]}, '
                    f'but there are {self.num_classes} classes, so labels must lie in 0..{self.num_classes - 1} or be '
                    f'ignore_index={self.ignore_index}; check num_classes, reduce_zero_label and the data set'
                )
            labels = upload(torch.tensor(classes, dtype=label.dtype), label.device)
            targets.append({'labels': labels, 'masks': class_masks(label, classes)})
            if self.ignore_aware:
                targets[-1]['valid'] = label != self.ignore_index
        return targets


def _samples_of(metas: Sequence[dict], size: Sequence[int]) -> SampleList:
    """Makes what mmdet's heads ask for beside the features: the size of the network's input, (H, W)."""
    return [SegDataSample(metainfo={**meta, 'img_shape': size, 'batch_input_shape': size}) for meta in metas]


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
        ValueError: There are fewer than two classes, ``class_weight`` does not fit; in ``loss``: a label is no class.
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
        ValueError: There are fewer than two classes, ``class_weight`` does not fit; in ``loss``: a label is no class.
    """
