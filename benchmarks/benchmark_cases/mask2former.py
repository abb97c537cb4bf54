"""Matching and losses of Mask2Former's and MaskFormer's heads, from bitmaps and predictions to the losses.

Both heads are mmdet's, with a network that is as small as can be: it is not run. The layers' mask logits are separate
tensors for Mask2Former and one for MaskFormer, as the heads predict them; in one case they are made of what the head
makes them of.
"""

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from mmplugins.functional.masks.product import mask_product
from mmplugins.registry import MODELS

from ._case import Run, case
from .set_criterion import total

CLASSES = 80
DIMS = 8  # of the network that is not run
SIZES = {
    'small': {'layers': 3, 'images': 2, 'queries': 20, 'objects': 5, 'logit_size': 32, 'mask_size': 128},
    'typical': {'layers': 10, 'images': 2, 'queries': 100, 'objects': 20, 'logit_size': 256, 'mask_size': 1024},
    'large': {'layers': 10, 'images': 2, 'queries': 100, 'objects': 100, 'logit_size': 256, 'mask_size': 1024},
}
DENSE_SIZES = {
    'small': {'layers': 3, 'images': 2, 'queries': 20, 'objects': 5, 'logit_size': 32, 'mask_size': 128},
    'typical': {'layers': 6, 'images': 2, 'queries': 100, 'objects': 10, 'logit_size': 160, 'mask_size': 640},
    'large': {'layers': 6, 'images': 2, 'queries': 100, 'objects': 20, 'logit_size': 200, 'mask_size': 800},
}
CROWD_SIZES = {
    'small': {'layers': 3, 'images': 1, 'queries': 20, 'objects': 70, 'logit_size': 125, 'mask_size': 500},
    'typical': {'layers': 10, 'images': 1, 'queries': 100, 'objects': 700, 'logit_size': 250, 'mask_size': 1000},
    'large': {'layers': 10, 'images': 1, 'queries': 100, 'objects': 700, 'logit_size': 500, 'mask_size': 2000},
}
CHANNELS = {'small': 32, 'typical': 256, 'large': 256}
PRODUCT_SIZES = {size: {**settings, 'channels': CHANNELS[size]} for size, settings in SIZES.items()}
Layers = list[Tensor]

ATTENTION = {'embed_dims': DIMS, 'num_heads': 1, 'batch_first': True}
FFN = {'embed_dims': DIMS, 'feedforward_channels': DIMS}
POSITION = {'num_feats': DIMS // 2, 'normalize': True}
NORM = {'type': 'GN', 'num_groups': 1}
ENCODER_LAYER = {'self_attn_cfg': {**ATTENTION, 'num_levels': 3, 'num_points': 1}, 'ffn_cfg': FFN}
DEFORMABLE = {
    'type': 'MSDeformAttnPixelDecoder',
    'norm_cfg': NORM,
    'encoder': {'num_layers': 1, 'layer_cfg': ENCODER_LAYER},
    'positional_encoding': POSITION,
}
PARTS = {
    'Mask2Former': {
        'pixel_decoder': DEFORMABLE,
        'outputs_of_queries': 1,  # before the first layer
        'costs': [
            {'type': 'ClassificationCost', 'weight': 2.0},
            {'type': 'CrossEntropyLossCost', 'weight': 5.0},
            {'type': 'DiceCost', 'weight': 5.0, 'pred_act': True, 'eps': 1.0},
        ],
        'losses': [
            {'type': 'CrossEntropyLoss', 'loss_weight': 2.0},
            {'type': 'CrossEntropyLoss', 'loss_weight': 5.0},
            {'type': 'DiceLoss', 'loss_weight': 5.0},
        ],
    },
    'MaskFormer': {
        'pixel_decoder': {'type': 'PixelDecoder', 'norm_cfg': NORM},
        'outputs_of_queries': 0,
        'costs': [
            {'type': 'ClassificationCost', 'weight': 1.0},
            {'type': 'FocalLossCost', 'weight': 20.0, 'binary_input': True},
            {'type': 'DiceCost', 'weight': 1.0, 'pred_act': True, 'eps': 1.0},
        ],
        'losses': [
            {'type': 'CrossEntropyLoss', 'loss_weight': 1.0},
            {'type': 'FocalLoss', 'alpha': 0.25, 'gamma': 2.0, 'loss_weight': 20.0},
            {'type': 'DiceLoss', 'loss_weight': 1.0},
        ],
    },
}


def scene(
    device: torch.device, layers: int, images: int, queries: int, objects: int, logit_size: int, mask_size: int
) -> dict:
    """Makes objects, smooth blobs, and the predictions of a network that has found most of them.

    Args:
        device: Where the tensors go; the values do not depend on it.
        layers: L.
        images: B.
        queries: Q.
        objects: G of each image.
        logit_size: h and w.
        mask_size: H and W.

    Returns:
        For each layer ``logits`` (B, Q, C+1) and ``masks`` (B, Q, h, w), which require a gradient; for each image
        ``labels`` (G,) and ``bitmaps``, uint8 (G, H, W), on the host.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(images, max(queries, objects), 12, 12, generator=generator)
    labels = torch.randint(0, CLASSES, (images, objects), generator=generator)
    bitmaps = [np.zeros((objects, mask_size, mask_size), np.uint8) for _ in range(images)]
    for image, bitmap in enumerate(bitmaps):
        for field, mask in zip(coarse[image], bitmap, strict=False):
            mask[:] = (F.interpolate(field[None, None], bitmap.shape[1:], mode='bicubic')[0, 0] > 1).numpy()
    logits, masks = [], []
    for _ in range(layers):
        noisy = coarse[:, :queries] + 0.3 * torch.randn(images, queries, 12, 12, generator=generator)
        masks.append(4 * F.interpolate(noisy, (logit_size, logit_size), mode='bicubic') - 4)
        logits.append(torch.randn(images, queries, CLASSES + 1, generator=generator))
    return {
        'logits': [layer.to(device).requires_grad_() for layer in logits],
        'masks': [layer.to(device).requires_grad_() for layer in masks],
        'labels': list(labels.to(device)),
        'bitmaps': bitmaps,
    }


@case('mask2former_head', "from bitmaps to the losses of Mask2Former's head", **SIZES)
def mask2former_head(device: torch.device, **size: int) -> dict:
    """Makes the inputs."""
    return scene(device, **size)


@mask2former_head.contender('ours', host='mmdet')
def mask2former_ours(logits: Layers, masks: Layers, labels: list[Tensor], bitmaps: list[np.ndarray]) -> Run:
    """Builds ours."""
    return run_head(build_head('Mask2Former', 'mmplugins', logits), logits, masks, labels, bitmaps)


@mask2former_head.contender('mmdet', host='mmdet', differs='compares masks at other random points')
def mask2former_mmdet(logits: Layers, masks: Layers, labels: list[Tensor], bitmaps: list[np.ndarray]) -> Run:
    """Builds mmdet's."""
    return run_head(build_head('Mask2Former', 'mmdet', logits), logits, masks, labels, bitmaps)


@case('mask2former_product', 'the same, with the product of embeddings and features before it', **PRODUCT_SIZES)
def mask2former_product(device: torch.device, channels: int, **size: int) -> dict:
    """Makes the inputs: features, the first channels of which are the last layer's masks, and embeddings of these."""
    inputs = scene(device, **size)
    masks, generator = inputs.pop('masks')[-1].detach(), torch.Generator().manual_seed(1)
    images, queries, *shape = masks.shape
    noise = torch.randn(images, channels - queries, *shape, generator=generator)
    embeds = torch.eye(queries, channels) + 0.02 * torch.randn(
        size['layers'], images, queries, channels, generator=generator
    )
    return {
        **inputs,
        'embeds': [embed.to(device).requires_grad_() for embed in embeds],
        'features': torch.cat((masks, noise.to(device)), 1).requires_grad_(),
    }


@mask2former_product.contender('ours', host='mmdet')
def mask2former_product_ours(features: Tensor, embeds: Layers, logits: Layers, **targets) -> Run:
    """Builds ours."""
    head = build_head('Mask2Former', 'mmplugins', logits)
    return lambda: run_head(head, logits, [mask_product(embed, features) for embed in embeds], **targets)()


@mask2former_product.contender('mmdet', host='mmdet', differs='compares masks at other random points')
def mask2former_product_mmdet(features: Tensor, embeds: Layers, logits: Layers, **targets) -> Run:
    """Builds mmdet's."""
    head = build_head('Mask2Former', 'mmdet', logits)

    def run() -> Tensor:
        masks = [torch.einsum('bqc,bchw->bqhw', embed, features) for embed in embeds]
        return run_head(head, logits, masks, **targets)()

    return run


# mmdet would need 22 GiB for the masks alone at the large size: eight bytes a pixel and object.
@case('mask2former_crowd', "the same of an image with hundreds of objects; without mmdet's", **CROWD_SIZES)
def mask2former_crowd(device: torch.device, **size: int) -> dict:
    """Makes the inputs."""
    return scene(device, **size)


@mask2former_crowd.contender('ours', host='mmdet')
def mask2former_crowd_ours(logits: Layers, masks: Layers, labels: list[Tensor], bitmaps: list[np.ndarray]) -> Run:
    """Builds ours."""
    return run_head(build_head('Mask2Former', 'mmplugins', logits), logits, masks, labels, bitmaps)


@case('maskformer_head', "from bitmaps to the losses of MaskFormer's head", **DENSE_SIZES)
def maskformer_head(device: torch.device, **size: int) -> dict:
    """Makes the inputs."""
    inputs = scene(device, **size)
    return {**inputs, **{name: torch.stack(inputs[name]).detach().requires_grad_() for name in ('logits', 'masks')}}


@maskformer_head.contender('ours', host='mmdet')
def maskformer_ours(logits: Tensor, masks: Tensor, labels: list[Tensor], bitmaps: list[np.ndarray]) -> Run:
    """Builds ours."""
    return run_head(build_head('MaskFormer', 'mmplugins', logits), logits, masks, labels, bitmaps)


@maskformer_head.contender('mmdet', host='mmdet')
def maskformer_mmdet(logits: Tensor, masks: Tensor, labels: list[Tensor], bitmaps: list[np.ndarray]) -> Run:
    """Builds mmdet's."""
    return run_head(build_head('MaskFormer', 'mmdet', logits), logits, masks, labels, bitmaps)


def build_head(model: str, scope: str, logits: Layers | Tensor) -> torch.nn.Module:
    """Builds a head with a network that is as small as can be.

    Args:
        model: 'Mask2Former' or 'MaskFormer'.
        scope: 'mmplugins' or 'mmdet'.
        logits: Class logits of each layer.
    """
    parts = PARTS[model]
    costs = [{**cost, 'type': f'{scope}.{cost["type"]}'} for cost in parts['costs']]
    assigner = 'BatchHungarianAssigner' if scope == 'mmplugins' else 'HungarianAssigner'
    loss_cls, loss_mask, loss_dice = parts['losses']
    config = {
        'type': f'{scope}.{model}Head',
        'in_channels': [DIMS] * 4,
        'feat_channels': DIMS,
        'out_channels': DIMS,
        'strides': [4, 8, 16, 32],
        'num_things_classes': CLASSES,
        'num_stuff_classes': 0,
        'num_queries': logits[0].shape[1],
        'pixel_decoder': parts['pixel_decoder'],
        'positional_encoding': POSITION,
        'transformer_decoder': {
            'num_layers': len(logits) - parts['outputs_of_queries'],
            'layer_cfg': {'self_attn_cfg': ATTENTION, 'cross_attn_cfg': ATTENTION, 'ffn_cfg': FFN},
            'return_intermediate': True,
        },
        'loss_cls': {**loss_cls, 'class_weight': [1.0] * CLASSES + [0.1]},
        'loss_mask': {**loss_mask, 'use_sigmoid': True},
        'loss_dice': {**loss_dice, 'naive_dice': True, 'eps': 1.0},
        'train_cfg': {
            'assigner': {'type': f'{scope}.{assigner}', 'match_costs': costs},
            'sampler': {'type': 'MaskPseudoSampler'},
        },
    }
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(ConfigDict(config)).to(logits[0].device)


def run_head(
    head: torch.nn.Module, logits: Layers | Tensor, masks: Layers | Tensor, labels: list[Tensor], bitmaps: list
) -> Run:
    """Gives the run of what a head's ``loss`` does once it has predicted."""
    from mmdet.structures.mask import BitmapMasks

    size = bitmaps[0].shape[1:]
    instances = [
        InstanceData(labels=label, masks=BitmapMasks(bitmap, *size))
        for label, bitmap in zip(labels, bitmaps, strict=True)
    ]
    metas = [{'img_shape': size, 'batch_input_shape': size}] * len(labels)

    def run() -> Tensor:
        targets = head.preprocess_gt(instances, [None] * len(labels))
        return total(head.loss_by_feat(logits, masks, targets, metas)).sum()  # mmdet has one element

    return run
