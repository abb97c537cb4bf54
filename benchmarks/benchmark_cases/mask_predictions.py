"""From the mask logits of queries to results: panoptic, instances, semantic; beside mmdet's and mmseg's whole path.

The logits are those of a trained network: some queries are sure of a class and fit the scene, most are not. The path
starts from the head's own resolution and ends at the original image's size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.masks.class_maps import class_scores, find_classes
from mmplugins.functional.masks.resized import ResizedMasks
from mmplugins.functional.upsampled import UpsampledLogits

from ._case import Run, case

THINGS, STUFF = 80, 53
PANOPTIC = {'panoptic_on': True, 'instance_on': False, 'object_mask_thr': 0.8, 'iou_thr': 0.8}
INSTANCES = {'panoptic_on': False, 'instance_on': True, 'max_per_image': 100}
BOTH = {**PANOPTIC, 'instance_on': True}
SIZES = {
    'small': {'queries': 20, 'sure': 6, 'size': (256, 352), 'kept': (256, 341), 'original': (320, 427)},
    'typical': {'queries': 100, 'sure': 15, 'size': (1024, 1376), 'kept': (1024, 1365), 'original': (1024, 1365)},
    'large': {'queries': 100, 'sure': 40, 'size': (800, 1088), 'kept': (800, 1067), 'original': (1536, 2048)},
}


def trained_queries(queries: int, sure: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Makes what a trained network predicts of a scene of stuff and ellipses of things.

    Args:
        queries: How many.
        sure: How many of them are sure of their class, one in four of them of stuff.
        height: Of the mask logits.
        width: Of the mask logits.

    Returns:
        Class logits (Q, things + stuff + 1) and mask logits (Q, h, w).
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    logits = torch.randn(queries, THINGS + STUFF + 1, generator=generator)
    logits[:, -1] += 9
    logits[:sure, -1] -= 9
    stuff = max(sure // 4, 2)
    classes = torch.where(torch.arange(sure) < stuff, THINGS + draw(sure) * STUFF, draw(sure) * THINGS).long()
    logits[torch.arange(sure), classes] += 11 + 3 * draw(sure)
    coarse = torch.randn(1, stuff, 5, 6, generator=generator)
    fields = 8 * F.interpolate(coarse, (height, width), mode='bilinear', align_corners=True)[0]
    best = fields.topk(2, 0).values
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    masks = torch.empty(queries, height, width)
    for query, mask in enumerate(masks):
        if query < stuff:
            mask.copy_(fields[query] - torch.where(fields[query] == best[0], best[1], best[0]))
        else:
            (cy, cx), (ry, rx) = draw(2).tolist(), (0.03 + 0.2 * draw(2).square()).tolist()
            mask.copy_(12 - 12 * (((y - cy) / ry).square() + ((x - cx) / rx).square()))
    order = torch.randperm(queries, generator=generator)
    masks = masks.clamp_(-12, 9) + 0.3 * torch.randn(masks.shape, generator=generator)
    return logits[order], masks[order]


def queries_of_an_image(
    device: torch.device, queries: int, sure: int, size: tuple, kept: tuple, original: tuple
) -> dict:
    """Makes the inputs: ``size`` is that of the padded input, ``kept`` without padding."""
    logits, masks = trained_queries(queries, sure, size[0] // 4, size[1] // 4)
    meta = {'batch_input_shape': size, 'img_shape': kept, 'ori_shape': original}
    return {'logits': logits.to(device)[None], 'masks': masks.to(device)[None], 'meta': meta}


@case('panoptic_prediction', "panoptic result of a mask transformer's queries", **SIZES)
def panoptic_prediction(device: torch.device, **size: Any) -> dict:
    """Makes the inputs."""
    return queries_of_an_image(device, **size)


@case('instance_prediction', "instances of a mask transformer's queries, 100 masks", **SIZES)
def instance_prediction(device: torch.device, **size: Any) -> dict:
    """Makes the inputs."""
    return queries_of_an_image(device, **size)


@case('instance_prediction_rle', 'the same as RLE for a metric', **SIZES)
def instance_prediction_rle(device: torch.device, **size: Any) -> dict:
    """Makes the inputs."""
    return queries_of_an_image(device, **size)


@case('panoptic_instance_prediction', 'both results of an image, as COCO models give them', **SIZES)
def both_predictions(device: torch.device, **size: Any) -> dict:
    """Makes the inputs."""
    return queries_of_an_image(device, **size)


def fusion(ours: bool, logits: Tensor, masks: Tensor, meta: dict, test_cfg: dict) -> Run:
    """Builds a fusion head, called as mmdet's detectors call it behind its or our head."""
    from mmdet.models.seg_heads import MaskFormerFusionHead as ToolboxMaskFormerFusionHead
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import encode_mask_results

    from mmplugins.models.dense_heads import MaskFormerFusionHead

    encoded, size = test_cfg.get('mask_format') == 'rle', meta['batch_input_shape']
    cls = MaskFormerFusionHead if ours else ToolboxMaskFormerFusionHead
    head, sample = cls(THINGS, STUFF, test_cfg), DetDataSample(metainfo=meta)

    def run() -> dict:
        full = UpsampledLogits(masks, size) if ours else F.interpolate(masks, size, mode='bilinear')
        result, found = head.predict(logits, full, [sample], rescale=True)[0], {}
        if 'pan_results' in result:
            found['segments'] = result['pan_results'].sem_seg
        if 'ins_results' in result:
            instances = result['ins_results']
            found |= {'scores': instances.scores, 'boxes': instances.bboxes, 'masks': instances.masks}
            if encoded:
                if not ours:
                    found['masks'] = encode_mask_results(instances.masks.cpu().numpy())  # as CocoMetric does
                found['masks'] = torch.tensor([list(rle['counts'][:8].ljust(8)) for rle in found['masks']])
        return found

    return run


for _case, _cfg in (
    (panoptic_prediction, PANOPTIC),
    (instance_prediction, INSTANCES),
    (instance_prediction_rle, {**INSTANCES, 'mask_format': 'rle'}),
    (both_predictions, BOTH),
):

    @_case.contender('ours', host='mmdet')
    def fusion_ours(logits: Tensor, masks: Tensor, meta: dict, test_cfg: dict = _cfg) -> Run:
        """Builds our fusion head behind our head."""
        return fusion(True, logits, masks, meta, test_cfg)

    @_case.contender('mmdet', host='mmdet')
    def fusion_mmdet(logits: Tensor, masks: Tensor, meta: dict, test_cfg: dict = _cfg) -> Run:
        """Builds mmdet's fusion head behind mmdet's head."""
        return fusion(False, logits, masks, meta, test_cfg)


@case(
    'prediction_growth',
    "both results, masks as RLE, of images of up to 20 megapixels; without mmdet's, which takes 100 maps of each size",
    small={'queries': 100, 'sure': 15, 'size': (800, 1216), 'kept': (800, 1200), 'original': (912, 1368)},
    typical={'queries': 100, 'sure': 15, 'size': (800, 1216), 'kept': (800, 1200), 'original': (1824, 2736)},
    large={'queries': 100, 'sure': 15, 'size': (800, 1216), 'kept': (800, 1200), 'original': (3648, 5472)},
)
def prediction_growth(device: torch.device, **size: Any) -> dict:
    """Makes the inputs."""
    return queries_of_an_image(device, **size)


@prediction_growth.contender('ours', host='mmdet')
def growth_ours(logits: Tensor, masks: Tensor, meta: dict) -> Run:
    """Builds our fusion head behind our head."""
    return fusion(True, logits, masks, meta, {**BOTH, 'mask_format': 'rle'})


SEMANTIC_SIZES = {
    'small': {'images': 1, 'classes': 19, 'queries': 20, 'size': (128, 256), 'original': (128, 256)},
    'typical': {'images': 1, 'classes': 150, 'queries': 100, 'size': (512, 683), 'original': (512, 683)},
    'large': {'images': 1, 'classes': 150, 'queries': 100, 'size': (512, 768), 'original': (1365, 2048)},
}


def semantic_queries(
    device: torch.device, images: int, classes: int, queries: int, size: tuple, original: tuple
) -> dict:
    """Makes scores (B, Q, C) and mask logits of a quarter of the size."""
    generator = torch.Generator().manual_seed(0)
    scores = (3 * torch.randn(images, queries, classes + 1, generator=generator)).softmax(-1)[..., :-1]
    shape = [-(-length // 4) for length in size]
    _, masks = trained_queries(images * queries, queries // 4, *shape)
    return {
        'scores': scores.to(device),
        'masks': masks.view(images, queries, *shape).to(device),
        'size': size,
        'original': original,
    }


@case('semantic_prediction', "scores of all classes and labels, of a mask transformer's queries", **SEMANTIC_SIZES)
def semantic_prediction(device: torch.device, **size: Any) -> dict:
    """Makes the inputs."""
    return semantic_queries(device, **size)


@case('semantic_labels', 'labels alone', **SEMANTIC_SIZES, tolerance=1e-2)  # a label may differ where two scores agree
def semantic_labels(device: torch.device, **size: Any) -> dict:
    """Makes the inputs."""
    return semantic_queries(device, **size)


def labelled(scores: Tensor, original: tuple) -> list[Tensor]:
    """Resizes scores to the original image and finds the labels, as mmseg's segmentors do."""
    from mmseg.models.utils import resize

    full = resize(scores, original, mode='bilinear', align_corners=False, warning=False)
    return [full, full.argmax(1, keepdim=True)]


@semantic_prediction.contender('ours', host='mmseg')
def semantic_ours(scores: Tensor, masks: Tensor, size: tuple, original: tuple) -> Run:
    """Builds what our heads for mmseg call."""
    return lambda: labelled(class_scores(scores, UpsampledLogits(masks, size)), original)


@semantic_labels.contender('ours')
def labels_ours(scores: Tensor, masks: Tensor, size: tuple, original: tuple) -> Run:
    """Builds what ClassMapSegmentor calls."""

    def run() -> Tensor:
        images = [ResizedMasks(maps, [(size, size)]) for maps in masks]
        found = [find_classes(maps, share, size=original) for maps, share in zip(images, scores, strict=True)]
        return torch.stack(found)[:, None]

    return run


def mmseg_scores(scores: Tensor, masks: Tensor, size: tuple) -> Tensor:
    """What mmseg's heads compute in ``predict``."""
    full = F.interpolate(masks, size=size, mode='bilinear', align_corners=False)
    return torch.einsum('bqc, bqhw->bchw', scores, full.sigmoid())


@semantic_prediction.contender('mmseg', host='mmseg')
def semantic_mmseg(scores: Tensor, masks: Tensor, size: tuple, original: tuple) -> Run:
    """Builds mmseg's formula and its segmentor's resizing."""
    return lambda: labelled(mmseg_scores(scores, masks, size), original)


@semantic_labels.contender('mmseg', host='mmseg')
def labels_mmseg(scores: Tensor, masks: Tensor, size: tuple, original: tuple) -> Run:
    """Builds the same and returns the labels."""
    return lambda: labelled(mmseg_scores(scores, masks, size), original)[1]
