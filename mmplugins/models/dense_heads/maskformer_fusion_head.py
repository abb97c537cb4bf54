"""mmdet's MaskFormerFusionHead, which makes results of the masks of queries, without full-size maps of all of them.

Papers: MaskFormer (NeurIPS 2021), Mask2Former (CVPR 2022); mmdet: ``MaskFormerFusionHead``. mmdet upsamples the masks
of all queries twice, to the padded input and to the original image, and only then looks at the scores. Here queries are
chosen first and resized one at a time. Pixels, segments, boxes and labels are mmdet's, bit for bit on the CPU; scores
differ in their last digit at most.
Differences: mask logits of low resolution are taken from our heads (``UpsampledLogits``); a map of classes on request,
which mmdet refuses; instance masks as RLE on request; ``max_per_image`` above the number of candidates raises with the
numbers.
"""

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as rle
import torch
from mmdet.evaluation import INSTANCE_OFFSET
from mmdet.models.seg_heads import MaskFormerFusionHead as ToolboxMaskFormerFusionHead
from mmdet.structures import SampleList
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmplugins.functional.masks.class_maps import find_classes
from mmplugins.functional.masks.predictions import find_instances, find_segments
from mmplugins.functional.masks.resized import ResizedMasks
from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.registry import MODELS

_FORMATS = ('bool', 'rle')


@MODELS.register_module()
class MaskFormerFusionHead(ToolboxMaskFormerFusionHead):
    """Makes panoptic, instance and semantic results of the queries' masks; mmdet's arguments and results.

    ``test_cfg`` is that of the detector. Beside mmdet's ``panoptic_on``, ``instance_on``, ``object_mask_thr``,
    ``iou_thr``, ``filter_low_score`` and ``max_per_image`` it may have

    - ``semantic_on=True``: ``predict`` sets ``pred_sem_seg`` of each data sample, for each pixel the class with the
      largest sum over queries of score and mask; ``mmdet.SemSegMetric`` reads it. mmdet's head refuses this setting.
    - ``mask_format='rle'``: ``masks`` of the instances are a list of RLE as ``pycocotools`` encodes them, instead of a
      bool tensor. ``mmdet.CocoMetric`` takes them; visualizers and ``DetInferencer`` do not.

    Args:
        num_things_classes: Number of classes of things.
        num_stuff_classes: Number of classes of stuff.
        test_cfg: See above.
        loss_panoptic: Not used, as in mmdet.
        init_cfg: Not used.
        **kwargs: Not used.

    Shape:
        - mask_cls_results: logits (B, Q, C+1), no-object last.
        - mask_pred_results: mask logits (B, Q, H, W) of the padded input's size, or ``UpsampledLogits`` that stand for
          them, as our heads return.
        - Returns for each image a dict: ``pan_results`` with ``sem_seg`` int32 (1, H, W), class + 1000 * number of
          the instance; ``ins_results`` with ``bboxes`` (n, 4), ``labels``, ``scores`` (n,), ``masks`` bool (n, H, W).

    Raises:
        ValueError: ``mask_format`` is unknown; ``max_per_image`` is more than queries times classes.
    """

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        test_cfg: dict | None = None,
        loss_panoptic: dict | None = None,
        init_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        test_cfg = ConfigDict(test_cfg or {})
        if test_cfg.get('mask_format', 'bool') not in _FORMATS:
            raise ValueError(f'mask_format of test_cfg must be one of {_FORMATS}, got {test_cfg["mask_format"]!r}')
        super().__init__(num_things_classes, num_stuff_classes, test_cfg, loss_panoptic, init_cfg, **kwargs)

    def predict(
        self,
        mask_cls_results: Tensor,
        mask_pred_results: Tensor | UpsampledLogits,
        batch_data_samples: SampleList,
        rescale: bool = False,
        **kwargs,
    ) -> list[dict]:
        """Makes the results of a batch.

        Args:
            mask_cls_results: See the class.
            mask_pred_results: See the class.
            batch_data_samples: For each image ``img_shape``, without padding, and, if ``rescale``, ``ori_shape``.
            rescale: Whether results are of ``ori_shape``, else of ``img_shape``.
            **kwargs: Not used, as in mmdet.

        Returns:
            For each image a dict, see the class.
        """
        results = []
        masks = _masks_of(mask_pred_results, [sample.metainfo for sample in batch_data_samples], rescale)
        for scores, resized, sample in zip(mask_cls_results, masks, batch_data_samples, strict=True):
            result = {}
            if self.test_cfg.get('panoptic_on', True):
                result['pan_results'] = self.panoptic_postprocess(scores, resized)
            if self.test_cfg.get('instance_on', False):
                result['ins_results'] = self.instance_postprocess(scores, resized)
            if self.test_cfg.get('semantic_on', False):  # not in the result: mmdet's detectors would refuse it
                sample.pred_sem_seg = self.semantic_postprocess(scores, resized)
            results.append(result)
        return results

    def panoptic_postprocess(self, mask_cls: Tensor, mask_pred: Tensor | ResizedMasks) -> PixelData:
        """Makes the segments of an image.

        Args:
            mask_cls: Logits (Q, C+1).
            mask_pred: Mask logits (Q, H, W).

        Returns:
            ``sem_seg``, int32 (1, H, W), see the class; the number of classes where there is no segment.
        """
        masks = _resized(mask_pred)
        scores, labels = mask_cls.softmax(-1).max(-1)
        keep = labels.ne(self.num_classes) & (scores > self.test_cfg.get('object_mask_thr', 0.8))
        queries = keep.nonzero()[:, 0]
        if not len(queries):
            empty = torch.full(masks.size, self.num_classes, dtype=torch.int32, device=mask_cls.device)
            return PixelData(sem_seg=empty[None])
        if not masks.finite(queries):
            return super().panoptic_postprocess(mask_cls, masks.full())
        filtered = self.test_cfg.get('filter_low_score', False)
        segments = find_segments(masks, queries, scores[queries], with_inside=filtered)
        numbers = self._segment_numbers(labels[queries].tolist(), segments.areas.tolist(), segments.mask_areas.tolist())
        numbers = torch.tensor(numbers, dtype=torch.int32, device=mask_cls.device)
        result = numbers.index_select(0, segments.index.flatten()).view(1, *masks.size)
        if filtered:
            result[0].masked_fill_(~segments.inside, self.num_classes)
        return PixelData(sem_seg=result)

    def _segment_numbers(self, classes: Sequence[int], areas: Sequence[int], mask_areas: Sequence[int]) -> list[int]:
        """Returns what stands in the result for each query: the number of classes where it is no segment."""
        numbers, instance = [], 1
        for label, area, mask_area in zip(classes, areas, mask_areas, strict=True):
            if not area or not mask_area or area / mask_area < self.test_cfg.get('iou_thr', 0.8):
                numbers.append(self.num_classes)
            elif label < self.num_things_classes:
                numbers.append(label + instance * INSTANCE_OFFSET)
                instance += 1
            else:
                numbers.append(label)
        return numbers

    def instance_postprocess(self, mask_cls: Tensor, mask_pred: Tensor | ResizedMasks) -> InstanceData:
        """Makes the instances of an image.

        Args:
            mask_cls: Logits (Q, C+1).
            mask_pred: Mask logits (Q, H, W).

        Returns:
            See the class.
        """
        masks, limit = _resized(mask_pred), self.test_cfg.get('max_per_image', 100)
        scores = mask_cls.softmax(-1)[:, :-1]  # (Q, C)
        if limit > scores.numel():
            raise ValueError(
                f'max_per_image={limit} of test_cfg is more than there are candidates: {scores.shape[0]} queries of '
                f'{scores.shape[1]} classes give {scores.numel()}; set it to that or less'
            )
        scores, indices = scores.flatten().topk(limit, sorted=False)
        labels = indices % self.num_classes
        things = labels < self.num_things_classes
        scores, labels, queries = scores[things], labels[things], (indices // self.num_classes)[things]
        encoded = self.test_cfg.get('mask_format', 'bool') == 'rle'
        if masks.finite(queries):
            found = find_instances(masks, queries, _encode if encoded else None)
            return InstanceData(bboxes=found.boxes, labels=labels, scores=scores * found.scores, masks=found.masks)
        results = super().instance_postprocess(mask_cls, masks.full())
        if encoded:
            kept = [_encode(mask) for mask in results.masks]
            del results.masks
            results.masks = kept
        return results

    def semantic_postprocess(self, mask_cls: Tensor, mask_pred: Tensor | ResizedMasks) -> PixelData:
        """Makes the map of classes of an image.

        Args:
            mask_cls: Logits (Q, C+1).
            mask_pred: Mask logits (Q, H, W).

        Returns:
            ``sem_seg``, int64 (1, H, W).
        """
        return PixelData(sem_seg=find_classes(_resized(mask_pred), mask_cls.softmax(-1)[:, :-1])[None])


def _masks_of(masks: Tensor | UpsampledLogits, metas: Sequence[dict], rescale: bool) -> list[ResizedMasks]:
    """Returns the masks of each image, whose size is that without padding, or the original one."""
    results = []
    for maps, meta in zip(masks.logits if isinstance(masks, UpsampledLogits) else masks, metas, strict=True):
        kept, steps = meta['img_shape'][:2], []
        if isinstance(masks, UpsampledLogits):
            steps.append((masks.size, kept))
        else:
            maps = maps[:, : kept[0], : kept[1]]
        if rescale:
            steps.append((meta['ori_shape'][:2], meta['ori_shape'][:2]))
        results.append(ResizedMasks(maps, steps, together=isinstance(masks, UpsampledLogits)))
    return results


def _resized(masks: Tensor | ResizedMasks) -> ResizedMasks:
    return masks if isinstance(masks, ResizedMasks) else ResizedMasks(masks)


def _encode(mask: Tensor) -> dict:
    """Encodes a mask, bool (H, W), as pycocotools does."""
    return rle.encode(np.asfortranarray(mask.cpu().numpy().view(np.uint8)))
