"""Losses on the masks of matched pairs: on points (Mask2Former) and on all pixels (MaskFormer, DETR).

mmdet's contenders make the calls of its heads' ``_loss_by_feat_single``, layer by layer, on masks that are int64 as
its heads make them; the assignment is given. The formula with ``grid_sample`` is what mmcv's and detectron2's
``point_sample`` call.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmplugins.functional.masks.sampled_masks import sample_masks
from mmplugins.functional.sets.pairs import pack_pairs
from mmplugins.models.losses import DenseMaskLoss, PointSampledMaskLoss
from mmplugins.models.losses.mask_loss import BaseMaskLoss

from ._case import Run, case

SIZES = {
    'small': {'layers': 2, 'images': 2, 'queries': 10, 'objects': 4, 'size': 32, 'points': 256},
    'typical': {'layers': 10, 'images': 2, 'queries': 100, 'objects': 20, 'size': 256, 'points': 12544},
    'large': {'layers': 10, 'images': 2, 'queries': 100, 'objects': 100, 'size': 256, 'points': 12544},
}
DENSE_SIZES = {
    'small': {'layers': 2, 'images': 2, 'queries': 10, 'objects': 4, 'size': 32},
    'typical': {'layers': 6, 'images': 2, 'queries': 100, 'objects': 5, 'size': 160},
    'large': {'layers': 6, 'images': 2, 'queries': 100, 'objects': 20, 'size': 256},
}
STRIDE = 4  # pixels of the masks for a logit
Matches = list[list[tuple[Tensor, Tensor]]]


def scene(device: torch.device, layers: int, images: int, queries: int, objects: int, size: int) -> dict:
    """Makes objects' masks, logits of which a query each has mostly found its object, and those matches.

    Returns:
        ``logits``: L tensors (B, Q, h, w); ``masks``: B bool tensors (G, H, W); ``matches``: [layer][image] -> (query,
        object), on the CPU as an assigner gives them.
    """
    generator = torch.Generator().manual_seed(0)
    full = size * STRIDE
    axis = torch.arange(full)
    masks = torch.zeros(images, objects, full, full, dtype=torch.bool)
    for mask in masks.flatten(0, 1):  # ellipses
        centre, radius = torch.rand(2, 2, generator=generator)
        (y, x), (height, width) = (centre * full).tolist(), (full * (0.02 + 0.2 * radius)).tolist()
        mask |= ((axis[:, None] - y) / height) ** 2 + ((axis - x) / width) ** 2 < 1
    coarse = F.max_pool2d(masks.float(), STRIDE)  # (B, G, h, w)
    logits, matches = [], []
    for _ in range(layers):
        maps = torch.randn(images, queries, size, size, generator=generator) - 2
        pairs = []
        for image in range(images):
            query = torch.randperm(queries, generator=generator)[:objects].sort().values
            truth = torch.randperm(objects, generator=generator)[: len(query)]
            maps[image, query] += 4 * coarse[image, truth]
            pairs.append((query, truth))
        logits.append(maps.to(device).requires_grad_())
        matches.append(pairs)
    return {'logits': logits, 'masks': list(masks.to(device)), 'matches': matches}


@case('mask_points', 'masks interpolated at the points of all decoder layers', tolerance=1e-4, **SIZES)
def mask_points(
    device: torch.device, layers: int, images: int, queries: int, objects: int, size: int, points: int
) -> dict:
    """Makes masks (G, H, W) of each image and the points of each layer and image, (L, B, P, 2)."""
    masks = scene(device, 1, images, objects, objects, size)['masks']
    generator = torch.Generator().manual_seed(1)
    return {'masks': masks, 'points': torch.rand(layers, images, points, 2, generator=generator).to(device)}


@mask_points.contender('ours')
def mask_points_ours(masks: list[Tensor], points: Tensor) -> Run:
    """Builds ours."""

    def run() -> list[Tensor]:
        values = [sample_masks(mask, points[:, b].flatten(0, 1)) for b, mask in enumerate(masks)]
        return [value.view(len(value), *points.shape[::2][:1], -1).transpose(0, 1) for value in values]

    return run


@mask_points.contender('mmdet', host='mmdet')
def mask_points_mmdet(masks: list[Tensor], points: Tensor) -> Run:
    """Builds mmcv's operator as mmdet's head calls it."""
    from mmcv.ops import point_sample

    masks = [mask.long() for mask in masks]

    def sample(mask: Tensor, place: Tensor) -> Tensor:
        return point_sample(mask.unsqueeze(1).float(), place[None].repeat(len(mask), 1, 1)).squeeze(1)

    return lambda: [torch.stack([sample(mask, p) for p in points[:, b]]) for b, mask in enumerate(masks)]


@mask_points.contender('grid_sample')
def mask_points_grid_sample(masks: list[Tensor], points: Tensor) -> Run:
    """Builds the formula, all masks of an image in one call."""

    def sample(mask: Tensor, place: Tensor) -> Tensor:
        return F.grid_sample(mask[None].float(), (2 * place - 1)[None, None], align_corners=False)[0, :, 0]

    return lambda: [torch.stack([sample(mask, p) for p in points[:, b]]) for b, mask in enumerate(masks)]


def layer_losses(loss: BaseMaskLoss, logits: list[Tensor], masks: list[Tensor], matches: Matches) -> dict[str, Tensor]:
    """Computes our losses as a set criterion does: checks, one upload of the pairs, losses."""
    pairs = pack_pairs(matches, logits[0].shape[1], [len(mask) for mask in masks], logits[0].device)
    return loss.layer_losses(loss.inputs(logits, masks), pairs, num_objects(masks))


@case('point_mask_loss', "Mask2Former's mask losses of all decoder layers, on uncertain points", **SIZES)
def point_mask_loss(device: torch.device, points: int, **size: int) -> dict:
    """Makes the inputs."""
    return {**scene(device, **size), 'points': points}


@point_mask_loss.contender('ours')
def point_mask_loss_ours(logits: list[Tensor], masks: list[Tensor], matches: Matches, points: int) -> Run:
    """Builds ours."""
    loss = PointSampledMaskLoss(points)
    return lambda: list(layer_losses(loss, logits, masks, matches).values())


@point_mask_loss.contender('mmdet', host='mmdet', differs='draws its own points')
def point_mask_loss_mmdet(logits: list[Tensor], masks: list[Tensor], matches: Matches, points: int) -> Run:
    """Builds mmdet's."""
    from mmcv.ops import point_sample
    from mmdet.models.losses import CrossEntropyLoss, DiceLoss
    from mmdet.models.utils import get_uncertain_point_coords_with_randomness as draw

    loss_mask, loss_dice = CrossEntropyLoss(use_sigmoid=True), DiceLoss(naive_dice=True, eps=1.0)
    masks, factor = [mask.long() for mask in masks], num_objects(masks)

    def one(layer: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        maps, target = matched(layer, masks, pairs)
        with torch.no_grad():
            coords = draw(maps.unsqueeze(1), None, points, 3.0, 0.75)
            at_target = point_sample(target.unsqueeze(1).float(), coords).squeeze(1)
        at_maps = point_sample(maps.unsqueeze(1), coords).squeeze(1)
        dice = loss_dice(at_maps, at_target, avg_factor=factor)
        return loss_mask(at_maps.reshape(-1), at_target.reshape(-1), avg_factor=factor * points), dice

    return lambda: by_loss(one, logits, matches)


@case('dense_mask_loss', "MaskFormer's mask losses of all decoder layers, on all pixels", **DENSE_SIZES)
def dense_mask_loss(device: torch.device, **size: int) -> dict:
    """Makes the inputs."""
    return scene(device, **size)


@dense_mask_loss.contender('ours')
def dense_mask_loss_ours(logits: list[Tensor], masks: list[Tensor], matches: Matches) -> Run:
    """Builds ours."""
    loss = DenseMaskLoss()
    return lambda: list(layer_losses(loss, logits, masks, matches).values())


@dense_mask_loss.contender('mmdet', host='mmdet')
def dense_mask_loss_mmdet(logits: list[Tensor], masks: list[Tensor], matches: Matches) -> Run:
    """Builds mmdet's."""
    from mmdet.models.losses import DiceLoss, FocalLoss

    loss_mask, loss_dice = FocalLoss(use_sigmoid=True), DiceLoss(naive_dice=True, eps=1.0)
    masks, factor = [mask.long() for mask in masks], num_objects(masks)

    def one(layer: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        maps, target = matched(layer, masks, pairs)
        maps = F.interpolate(maps.unsqueeze(1), target.shape[-2:], mode='bilinear', align_corners=False).squeeze(1)
        pixels = target[0].numel()
        focal = loss_mask(maps.reshape(-1, 1), 1 - target.reshape(-1), avg_factor=factor * pixels)
        return focal, loss_dice(maps, target, avg_factor=factor)

    return lambda: by_loss(one, logits, matches)


@dense_mask_loss.contender('released')
def dense_mask_loss_released(logits: list[Tensor], masks: list[Tensor], matches: Matches) -> Run:
    """Builds the formula, written from its description (MaskFormer, criterion.py)."""
    factor = num_objects(masks)

    def one(layer: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        maps, target = matched(layer, [mask.float() for mask in masks], pairs)
        maps = F.interpolate(maps[:, None], target.shape[-2:], mode='bilinear', align_corners=False)[:, 0].flatten(1)
        target = target.flatten(1)
        prob = maps.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(maps, target, reduction='none')
        hit = prob * target + (1 - prob) * (1 - target)
        focal = (0.25 * target + 0.75 * (1 - target)) * (entropy * (1 - hit) ** 2)
        dice = 1 - (2 * (prob * target).sum(-1) + 1) / (prob.sum(-1) + target.sum(-1) + 1)
        return focal.mean(1).sum() / factor, dice.sum() / factor

    return lambda: by_loss(one, logits, matches)


def num_objects(masks: Sequence[Tensor]) -> float:
    """Number of objects of the batch, what losses are divided by."""
    return float(sum(map(len, masks)))


def matched(layer: Tensor, masks: Sequence[Tensor], pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Gathers a layer's matched logits (M, h, w) and their masks (M, H, W)."""
    device = layer.device
    maps = torch.cat([layer[image, query.to(device)] for image, (query, _) in enumerate(pairs)])
    return maps, torch.cat([masks[image][truth.to(device)] for image, (_, truth) in enumerate(pairs)])


def by_loss(one, logits: Sequence[Tensor], matches: Matches) -> list[Tensor]:
    """Calls a function of a layer and its pairs for every layer; gives each of its losses stacked, (L,)."""
    values = [one(layer, pairs) for layer, pairs in zip(logits, matches, strict=True)]
    return [torch.stack(parts) for parts in zip(*values, strict=True)]
