"""Small MaskFormer and Mask2Former models, ours and the toolboxes' from one config, and samples for them."""

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData

from mmplugins.registry import MODELS

WIDTHS = (8, 16, 32, 64)  # of the features, strides 4 to 32
DIMS = 16
NORM, ACT = dict(type='GN', num_groups=4), dict(type='ReLU')
POSITION = dict(num_feats=DIMS // 2, normalize=True)
COSTS = {
    'Mask2Former': (
        dict(type='ClassificationCost', weight=2.0),
        dict(type='CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
        dict(type='DiceCost', weight=5.0, pred_act=True, eps=1.0),
    ),
    'MaskFormer': (
        dict(type='ClassificationCost', weight=1.0),
        dict(type='FocalLossCost', weight=20.0, binary_input=True),
        dict(type='DiceCost', weight=1.0, pred_act=True, eps=1.0),
    ),
}
LOSSES = {
    'Mask2Former': (
        dict(type='mmdet.CrossEntropyLoss', use_sigmoid=False, loss_weight=2.0),
        dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0),
        dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0, loss_weight=5.0),
    ),
    'MaskFormer': (
        dict(type='mmdet.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=20.0),
        dict(type='mmdet.DiceLoss', naive_dice=True, eps=1.0, loss_weight=1.0),
    ),
}


def build(config, scope='mmdet'):
    """Builds a model whatever the default scope, always with the same weights."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(ConfigDict(config))


def attention(**more):
    return dict(embed_dims=DIMS, num_heads=2, dropout=0.0, batch_first=True, **more)


def layer(**attentions):
    ffn = dict(embed_dims=DIMS, feedforward_channels=DIMS, num_fcs=2, ffn_drop=0.0, act_cfg=dict(ACT, inplace=True))
    return dict(**attentions, ffn_cfg=ffn)


def head_config(model, ours=True, *, semantic=False, classes=(4, 2), num_queries=12, num_points=64, train=None, **more):
    """Config of a head.

    Args:
        model: 'Mask2Former' or 'MaskFormer'.
        ours: Whether the head, the assigner and the costs are ours or the toolbox's.
        semantic: Whether it is a head for mmseg.
        classes: Numbers of things and of stuff.
        num_queries: Number of queries.
        num_points: Number of points, Mask2Former only.
        train: What to change in train_cfg.
        **more: What to change in the head.
    """
    kind = f'mmplugins.{model}' if ours else f'{"mmseg" if semantic else "mmdet"}.{model}'
    scope, assigner = ('mmplugins', 'BatchHungarianAssigner') if ours else ('mmdet', 'HungarianAssigner')
    loss_cls, loss_mask, loss_dice = LOSSES[model]
    settings = dict(
        type=f'{kind}SegHead' if semantic and ours else f'{kind}Head',
        in_channels=list(WIDTHS),
        feat_channels=DIMS,
        out_channels=DIMS,
        num_queries=num_queries,
        positional_encoding=POSITION,
        transformer_decoder=dict(
            return_intermediate=True,
            num_layers=2,
            layer_cfg=layer(self_attn_cfg=attention(), cross_attn_cfg=attention()),
        ),
        loss_cls=dict(loss_cls, class_weight=[1.0] * sum(classes) + [0.1]),
        loss_mask=loss_mask,
        loss_dice=loss_dice,
        train_cfg=dict(
            assigner=dict(
                type=f'{scope}.{assigner}',
                match_costs=[cost | dict(type=f'{scope}.{cost["type"]}') for cost in COSTS[model]],
            ),
            sampler=dict(type='mmdet.MaskPseudoSampler'),
        ),
        test_cfg=dict(panoptic_on=True),
    )
    if semantic:
        settings.update(num_classes=sum(classes))
    else:
        settings.update(num_things_classes=classes[0], num_stuff_classes=classes[1])
    if model == 'Mask2Former':
        encoder = dict(num_layers=1, layer_cfg=layer(self_attn_cfg=attention(num_levels=3, num_points=2)))
        decoder = dict(type='mmdet.MSDeformAttnPixelDecoder', num_outs=3, encoder=encoder, positional_encoding=POSITION)
        settings.update(num_transformer_feat_level=3, strides=[4, 8, 16, 32])
        settings['train_cfg'].update(num_points=num_points, oversample_ratio=3.0, importance_sample_ratio=0.75)
    else:
        decoder = dict(type='mmdet.PixelDecoder')
    settings['pixel_decoder'] = dict(decoder, norm_cfg=NORM, act_cfg=ACT)
    settings['train_cfg'].update(train or {})
    return settings | more


def small_head(model, ours=True, **settings):
    """A head, see ``head_config``."""
    scope = 'mmseg' if settings.get('semantic') else 'mmdet'
    return build(head_config(model, ours, **settings), scope)


def features(batch=2, height=64, width=96, seed=0):
    """What a backbone gives for images of that size."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, channels, height // stride, width // stride, generator=generator)
        for channels, stride in zip(WIDTHS, (4, 8, 16, 32), strict=True)
    ]


def rectangles(count, height, width, seed=0):
    """Masks of rectangles, bool (count, height, width)."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), bool)
    for mask in masks:
        top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
        mask[top : top + rng.integers(8, height // 2), left : left + rng.integers(8, width // 2)] = True
    return masks


def sample(count=3, height=64, width=96, num_things=4, num_stuff=2, seed=0, **meta):
    """mmdet's data sample of an image with objects, stuff in its lower half, and pixels without a label between."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    masks = rectangles(count, height, width, seed).astype(np.uint8)
    one = DetDataSample(metainfo=dict(img_shape=(height, width), batch_input_shape=(height, width)) | meta)
    labels = torch.arange(count) % num_things
    one.gt_instances = InstanceData(
        labels=labels, masks=BitmapMasks(masks, height, width), bboxes=torch.zeros(count, 4)
    )
    if num_stuff:
        semantic = torch.full((1, height, width), 255)
        for index in range(num_stuff):
            left = index * width // num_stuff
            semantic[:, height // 2 :, left : left + width // num_stuff - 4] = num_things + index
        for mask, label in zip(masks, labels, strict=True):
            semantic[:, torch.from_numpy(mask.astype(bool))] = label
        one.gt_sem_seg = PixelData(sem_seg=semantic)
    return one


def predictions(num_layers=3, batch=2, queries=12, classes=6, size=(16, 24), seed=0):
    """Logits (L, B, Q, C+1) and mask logits (L, B, Q, h, w) that need a gradient."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_layers, batch, queries, classes + 1, generator=generator)
    masks = 3 * torch.randn(num_layers, batch, queries, *size, generator=generator)
    return logits.requires_grad_(), masks.requires_grad_()


def small_detector(model, ours=True, **settings):
    """A whole detector of mmdet on a narrow ResNet-18; ``settings`` are those of ``head_config``."""
    head = head_config(model, ours, **settings)
    train_cfg, test_cfg = head.pop('train_cfg'), head.pop('test_cfg')
    things, stuff = head['num_things_classes'], head['num_stuff_classes']
    test_cfg.update(instance_on=True, semantic_on=False, max_per_image=5, iou_thr=0.8, object_mask_thr=0.3)
    return build(
        dict(
            type=f'mmdet.{model}',
            data_preprocessor=dict(type='mmdet.DetDataPreprocessor', pad_mask=True, pad_seg=True, pad_size_divisor=32),
            backbone=dict(type='mmdet.ResNet', depth=18, base_channels=8, norm_cfg=dict(type='BN')),
            panoptic_head=head,
            panoptic_fusion_head=dict(
                type='mmdet.MaskFormerFusionHead', num_things_classes=things, num_stuff_classes=stuff
            ),
            train_cfg=train_cfg,
            test_cfg=dict(test_cfg, filter_low_score=False),
        )
    )


def raw_batch(ignored=False):
    """Two images of two sizes with their samples, as a data loader gives them, for the data preprocessor."""
    images, samples = [], []
    for index, (height, width) in enumerate(((60, 96), (64, 80))):
        one = sample(2 + index, height, width, seed=index)
        one.set_metainfo(dict(ori_shape=(height, width), scale_factor=(1.0, 1.0)))
        semantic = one.gt_sem_seg.sem_seg.float()
        images.append((semantic % 255 - 3).expand(3, -1, -1) + 0.1 * torch.randn(3, height, width))
        if ignored:
            one.ignored_instances = InstanceData(masks=one.gt_instances.masks[:1], labels=one.gt_instances.labels[:1])
        samples.append(one)
    return dict(inputs=images, data_samples=samples)
