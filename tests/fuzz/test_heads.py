"""Losses of the heads, from random outputs and annotations, beside float64 formulas, on both paths."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from mmengine.structures import InstanceData, PixelData

from mmplugins.hosts import problem_with
from mmplugins.registry import MODELS
from tests.fuzz import mask_references, pixel_references, set_references
from tests.fuzz.cases import (
    DTYPES,
    LAYOUTS,
    SEEDS,
    close,
    fuzz,
    layout,
    on_both_paths,
    random_logits,
    resized_on_cpu,
)
from tests.models.losses.set_scenes import total

for host in ('mmdet', 'mmseg'):
    if problem_with(host):
        pytest.skip(str(problem_with(host)), allow_module_level=True)

from mmseg.structures import SegDataSample  # noqa: E402  needs mmseg

from tests.models.dense_heads.detr_models import our_head, toolbox_head  # noqa: E402  needs mmdet
from tests.models.mask_models import small_head  # noqa: E402

COUNTS = st.lists(st.integers(0, 4), min_size=1, max_size=3)


@cache
def detr_head():
    return our_head(toolbox_head())


@cache
def mask_head(model, semantic, ignore_aware):
    return small_head(model, semantic=semantic, ignore_aware=ignore_aware, num_points=7)


class Recorder:
    """Remembers the pairs that an assigner found."""

    def __init__(self, assigner):
        self.assigner, self.match_costs = assigner, assigner.match_costs

    def assign_batch(self, *args, **kwargs):
        self.pairs = self.assigner.assign_batch(*args, **kwargs)
        return self.pairs


def recorded(head, run):
    """Calls a function with the head's assigner watched; returns its value and the pairs."""
    assigner, head.assigner = head.assigner, Recorder(head.assigner)
    try:
        return run(), head.assigner.pairs
    finally:
        head.assigner = assigner


def class_loss(logits, labels, pairs, weight, divisor):
    """Weighted cross entropy of one layer; logits (B, Q, C+1), pairs of each image; None: the sum of the weights."""
    value, number = logits.sum() * 0, 0.0
    for image, (query, index) in enumerate(pairs):
        matched = dict(zip(query.tolist(), labels[image][index].tolist(), strict=True))
        for place, row in enumerate(logits[image]):
            label = matched.get(place, len(weight) - 1)
            value = value - weight[label] * (row - row.logsumexp(0))[label]
            number += weight[label]
    return value / ((number or 1) if divisor is None else divisor)


@fuzz(
    'DETRHead',
    seed=SEEDS,
    layers=st.integers(1, 3),
    counts=COUNTS,
    queries=st.integers(1, 5),
    dtype=st.sampled_from(DTYPES[2:]),
    kind=st.sampled_from(LAYOUTS[:4]),
    logits=st.sampled_from(['normal', 'large', 'equal']),
)
def test_detr(seed, layers, counts, queries, dtype, kind, logits):
    head, generator = detr_head(), torch.Generator().manual_seed(seed)
    pred = layout(random_logits(generator, (layers, len(counts), queries, 6), logits, dtype), kind)
    boxes = layout((0.1 + 0.5 * torch.rand(layers, len(counts), queries, 4, generator=generator)).to(dtype), kind)
    instances, metas, targets = [], [], []
    for count in counts:
        height, width = torch.randint(1, 800, (2,), generator=generator).tolist()
        start, side = (torch.rand(count, 2, generator=generator) for _ in range(2))
        corners = torch.cat((start, start + side), 1) * torch.tensor([width, height] * 2)
        instances.append(InstanceData(labels=torch.randint(0, 5, (count,), generator=generator), bboxes=corners))
        metas.append(dict(img_shape=(height, width)))
        fractions = corners.double() / torch.tensor([width, height] * 2)
        box = torch.cat(((fractions[:, :2] + fractions[:, 2:]) / 2, fractions[:, 2:] - fractions[:, :2]), 1)
        targets.append(dict(labels=instances[-1].labels, boxes=box))

    def test():
        leaves = [pred.detach().requires_grad_(), boxes.detach().requires_grad_()]
        losses, pairs = recorded(head, lambda: head.loss_by_feat(*leaves, instances, metas))
        exact = dict(logits=pred.double().requires_grad_(), boxes=boxes.double().requires_grad_())
        weight = [1.0] * 5 + [0.1]
        for layer in range(layers):
            name = '' if layer == layers - 1 else f'd{layer}.'
            number = sum(len(query) for query, _ in pairs[layer])
            divisor = max(number + (len(counts) * queries - number) * 0.1, 1)
            labels = [target['labels'] for target in targets]
            value = class_loss(exact['logits'][layer], labels, pairs[layer], weight, divisor)
            close(losses[f'{name}loss_cls'], value, torch.float32, 'loss_cls', scale=1.0)  # 0.1 is float32's
            values = [exact['boxes'].sum() * 0] * 2
            for image, found in enumerate(pairs[layer]):
                for query, index in zip(*(part.tolist() for part in found), strict=True):
                    ours, theirs = exact['boxes'][layer, image, query], targets[image]['boxes'][index]
                    giou = set_references.overlap(set_references.corners(ours), set_references.corners(theirs), 'giou')
                    values = [values[0] + (ours - theirs).abs().sum(), values[1] + 1 - giou]
            for key, loss_weight, wanted in zip(('loss_bbox', 'loss_iou'), (5, 2), values, strict=True):
                # corners come in pixels of float32
                wanted = loss_weight * wanted / max(number, 1)
                close(losses[name + key].float(), wanted, torch.float32, key, scale=1.0)
        for grad in torch.autograd.grad(total(losses), leaves):
            assert grad.isfinite().all()

    on_both_paths(test)


def mask_losses(model, logits, masks, targets, pairs, loss_coords, ignore_aware):
    """Losses of a mask head for given pairs: by name, in float64."""
    weights = {'Mask2Former': (2.0, 5.0, 5.0), 'MaskFormer': (1.0, 20.0, 1.0)}[model]
    found, layers = {}, len(logits)
    labels = [target['labels'] for target in targets]
    number = max(sum(max(len(query), 1) for query, _ in pairs[-1]), 1)
    for layer in range(layers):
        name = '' if layer == layers - 1 else f'd{layer}.'
        value = class_loss(logits[layer], labels, pairs[layer], [1.0] * 6 + [float(torch.tensor(0.1))], None)
        found[f'{name}loss_cls'] = weights[0] * value
        sums, row = [masks.sum() * 0] * 2, 0
        for image, (query, index) in enumerate(pairs[layer]):
            valid = targets[image].get('valid') if ignore_aware else None
            arguments = masks[layer, image, query], targets[image]['masks'][index].double()
            if model == 'MaskFormer':
                values = mask_references.dense(*arguments, valid, 0.25, 2.0)
            else:
                points = loss_coords[layer][row : row + len(query)].double()
                values = mask_references.on_points(*arguments, points, valid)
            row += len(query)
            sums = [one + value.sum() for one, value in zip(sums, values, strict=True)]
        for key, weight, value in zip(('loss_mask', 'loss_dice'), weights[1:], sums, strict=True):
            found[name + key] = weight * value / (number + mask_references.EPS)
    return found


MASK_SCENES = dict(
    seed=SEEDS,
    layers=st.integers(1, 2),
    counts=COUNTS,
    queries=st.integers(1, 4),
    low=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    scale=st.integers(1, 3),
    dtype=st.sampled_from(DTYPES[2:]),
    ignore=st.sampled_from([None, 'some', 'half']),
    listed=st.booleans(),
)


def check_mask_head(model, seed, layers, counts, queries, low, scale, dtype, ignore, listed):
    head, generator = mask_head(model, False, ignore is not None), torch.Generator().manual_seed(seed)
    size = low[0] * scale, low[1] * scale
    logits = random_logits(generator, (layers, len(counts), queries, 7), 'normal', dtype)
    masks = random_logits(generator, (layers, len(counts), queries, *low), 'normal', dtype)
    targets = []
    for count in counts:
        labels = torch.randint(0, 6, (count,), generator=generator)
        targets.append(dict(labels=labels, masks=torch.rand(count, *size, generator=generator) < 0.4))
        if ignore is not None:
            targets[-1]['valid'] = torch.rand(size, generator=generator) < (0.8 if ignore == 'some' else 1)
            if ignore == 'half':
                targets[-1]['valid'][: size[0] // 2] = False
    metas = [dict(img_path=f'{index}.jpg') for index in range(len(counts))]
    match_coords = loss_coords = None
    if model == 'Mask2Former':
        match_coords = torch.rand(layers, len(counts), 7, 2, generator=generator)
        pairs = sum(min(count, queries) for count in counts)
        loss_coords = [torch.rand(pairs, 7, 2, generator=generator) for _ in range(layers)]

    def test():
        leaves = [logits.detach().requires_grad_(), masks.detach().requires_grad_()]
        given = [list(leaf) for leaf in leaves] if listed else leaves

        def run():
            return head.loss_by_feat(*given, targets, metas, match_coords=match_coords, loss_coords=loss_coords)

        losses, pairs = recorded(head, run)
        exact = [logits.double().requires_grad_(), masks.double().requires_grad_()]
        expected = mask_losses(model, *exact, targets, pairs, loss_coords, ignore is not None)
        for name, value in expected.items():
            close(losses[name], value, dtype, name, scale=1.0)
        grads = torch.autograd.grad(total(losses), leaves)
        for grad, wanted in zip(grads, torch.autograd.grad(sum(expected.values()), exact), strict=True):
            close(grad, wanted, dtype, 'gradient', scale=1.0)

    on_both_paths(test)


@fuzz('Mask2FormerHead', **MASK_SCENES)
def test_mask2former(**drawn):
    check_mask_head('Mask2Former', **drawn)


@fuzz('MaskFormerHead', **MASK_SCENES)
def test_maskformer(**drawn):
    check_mask_head('MaskFormer', **drawn)


SEMANTIC = dict(
    seed=SEEDS,
    images=st.integers(1, 3),
    size=st.tuples(st.integers(1, 7), st.integers(1, 9)),
    present=st.lists(st.integers(0, 5), max_size=4),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    wrong=st.sampled_from([None, None, None, 6, 254, -1]),
    ignore_aware=st.booleans(),
)


def check_semantic_targets(model, seed, images, size, present, ignored, wrong, ignore_aware):
    """A mask for each class of a label map, in order; a label that is no class is named with its image."""
    head, generator = mask_head(model, True, ignore_aware), np.random.default_rng(seed)
    samples, maps = [], []
    for index in range(images):
        label = generator.choice(present, size) if present else np.full(size, 255)
        label = np.where(generator.random(size) < ignored, 255, label)
        if wrong is not None and index == images - 1:
            label[-1, -1] = wrong
        maps.append(label)
        sample = SegDataSample(metainfo=dict(img_path=f'{index}.png', img_shape=size))
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(label)[None])
        samples.append(sample)

    def test():
        if wrong is not None:
            with pytest.raises(ValueError, match=rf'{images - 1}.png has the labels \[{wrong}\]'):
                head.targets(samples)
            return
        for target, label in zip(head.targets(samples), maps, strict=True):
            classes = [value for value in range(6) if (label == value).any()]
            assert target['labels'].tolist() == classes
            assert target['masks'].shape == (len(classes), *size)
            for mask, value in zip(target['masks'], classes, strict=True):
                assert np.array_equal(mask.numpy(), label == value)
            assert ('valid' in target) == ignore_aware
            if ignore_aware:
                assert np.array_equal(target['valid'].numpy(), label != 255)

    on_both_paths(test)


@fuzz('Mask2FormerSegHead', **SEMANTIC)
def test_mask2former_of_mmseg(**drawn):
    check_semantic_targets('Mask2Former', **drawn)


@fuzz('MaskFormerSegHead', **SEMANTIC)
def test_maskformer_of_mmseg(**drawn):
    check_semantic_targets('MaskFormer', **drawn)


PIXELS = dict(
    seed=SEEDS,
    images=st.integers(1, 3),
    low=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 11)),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(LAYOUTS),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
)


def samples_of(label):
    found = []
    for one in label:
        found.append(SegDataSample(gt_sem_seg=PixelData(data=one[None])))
    return found


@cache
def fpn_head(low_resolution, align_corners):
    loss = [
        dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=True, loss_name='loss_ce', loss_weight=0.5),
        dict(type='mmplugins.SoftJaccardLoss'),
    ]
    settings = dict(in_channels=(4, 4, 4, 4), channels=16, num_classes=4, loss_decode=loss, align_corners=align_corners)
    if low_resolution:
        kind = dict(type='mmplugins.LowResolutionLossHead', head='mmplugins.FPNSegmentationHead')
    else:
        kind = dict(type='mmplugins.FPNSegmentationHead')
    return MODELS.build({**kind, **settings})


def check_semantic_losses(low_resolution, seed, images, low, size, dtype, kind, ignored, align_corners):
    generator = torch.Generator().manual_seed(seed)
    dtype = resized_on_cpu(dtype)
    logits = layout(random_logits(generator, (images, 4, *low), 'normal', dtype), kind)
    label = torch.randint(0, 4, (images, *size), generator=generator)
    label[torch.rand(label.shape, generator=generator) < ignored] = 255
    valid = label != 255
    exact = logits.double().requires_grad_()
    full = F.interpolate(exact, size, mode='bilinear', align_corners=align_corners)
    eps = torch.finfo(torch.float32).eps
    entropy = pixel_references.cross_entropy(full, label, valid).sum() / (valid.sum() + eps)
    jaccard = pixel_references.soft_jaccard(full, label, valid, torch.ones(label.shape, dtype=torch.float64))[0].mean()
    expected = dict(loss_ce=0.5 * entropy, loss_jaccard=jaccard)
    (wanted,) = torch.autograd.grad(sum(expected.values()), exact)
    precision = torch.float32  # mmseg adds float32's epsilon
    if not low_resolution and dtype in (torch.float16, torch.bfloat16):
        precision = dtype  # mmseg upsamples in the logits' precision

    def test():
        head, leaf = fpn_head(low_resolution, align_corners), logits.detach().requires_grad_()
        losses = head.loss_by_feat(leaf, samples_of(label))
        for name, value in expected.items():
            close(losses[name], value, precision, name, scale=1.0)
        (grad,) = torch.autograd.grad(sum(losses[name] for name in expected), leaf)
        close(grad, wanted.to(dtype), precision if dtype == torch.float64 else dtype, 'gradient', scale=1.0)

    on_both_paths(test)


@fuzz('FPNSegmentationHead', align_corners=st.booleans(), **PIXELS)
def test_fpn(**drawn):
    check_semantic_losses(False, **drawn)


@fuzz('LowResolutionLossHead', align_corners=st.booleans(), **PIXELS)
def test_low_resolution(**drawn):
    check_semantic_losses(True, **drawn)


@cache
def pfnet_head():
    return MODELS.build(dict(type='mmplugins.PFNetHead', in_channels=(8, 8, 8, 8), channels=(8, 8, 8, 8)))


@fuzz('PFNetHead', **PIXELS)
def test_pfnet(seed, images, low, size, dtype, kind, ignored):
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype  # mmseg upsamples as they come
    maps = [layout(random_logits(generator, (images, 1, *low), 'normal', dtype), kind) for _ in range(4)]
    mask = (torch.rand(images, *size, generator=generator) < 0.5).long()
    mask[torch.rand(mask.shape, generator=generator) < ignored] = 255
    mask[0, 0, 0] = 1  # else 0 and 255 might be an 8-bit mask
    count = (mask != 255).double()
    expected, exact = {}, [one.double().requires_grad_() for one in maps]
    names = ('positioning.loss_bce_iou', *(f'focus{number}.loss_structure' for number in (3, 2, 1)))
    for name, one, weight in zip(names, exact, (1, 1, 2, 4), strict=True):
        full = F.interpolate(one, size, mode='bilinear', align_corners=True)[:, 0]
        edges = None if 'bce' in name else (31, 5.0)
        elements, number = pixel_references.region(full, (mask == 1).double(), count, 'batch', edges)
        expected[name] = weight * elements.sum() / max(int(number), 1)
    wanted = torch.autograd.grad(sum(expected.values()), exact)

    def test():
        leaves = [one.detach().requires_grad_() for one in maps]
        losses = pfnet_head().loss_by_feat(leaves, samples_of(mask))
        assert set(losses) == set(expected)
        for name, value in expected.items():
            close(losses[name], value, dtype, name, scale=1.0)
        for grad, one in zip(torch.autograd.grad(total(losses), leaves), wanted, strict=True):
            close(grad, one, dtype, 'gradient', scale=1.0)

    on_both_paths(test)
