"""Match costs, the assigner and the set criterion, drawn at random, beside float64 references, on both paths."""

import pytest
import torch
from hypothesis import strategies as st
from mmengine.structures import BaseDataElement, InstanceData

from mmplugins.models.losses import SetCriterion
from mmplugins.registry import TASK_UTILS
from tests.fuzz import set_references as reference
from tests.fuzz.cases import (
    BROKEN,
    DTYPES,
    LAYOUTS,
    LOGITS,
    SEEDS,
    broken_at,
    close,
    fuzz,
    layout,
    on_both_paths,
    random_logits,
)
from tests.models.losses.set_scenes import GivenAssigner, hungarian, total

SCENES = dict(
    seed=SEEDS,
    layers=st.sampled_from([None, 1, 3]),
    queries=st.integers(0, 5),
    objects=st.integers(0, 5),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(LAYOUTS),
    weight=st.sampled_from([1.0, 2.5, 0.0]),
)
POINTS = dict(
    points=st.sampled_from([(1,), (7,), (0,), (3, 4)]),
    logits=st.sampled_from(LOGITS),
    mask_type=st.sampled_from([torch.bool, torch.uint8, torch.float32, torch.float64]),
    stacked_masks=st.booleans(),
    ignore=st.sampled_from([None, 'some', 'all', 'weights']),
)


def cost_of(name, **settings):
    return TASK_UTILS.build(dict(type=f'mmplugins.{name}', **settings))


def compare(cost, formula, pred, objects, dtype, scale, call=(), each=None, **fields):
    """Compares a cost, stacked or not, with a formula of one layer; `each` are arguments of a layer."""
    layers = [pred] if pred.dim() == fields.pop('single') else list(pred)
    expected = torch.stack([formula(layer.double(), index) for index, layer in enumerate(layers)])
    name = fields.pop('name')

    def test():
        found = cost(BaseDataElement(**{name: pred}), objects, *call, stacked=pred.dim() > layers[0].dim(), **fields)
        wanted = expected if pred.dim() > layers[0].dim() else expected[0]
        precision = torch.promote_types(dtype, torch.float32)
        assert found.dtype == precision
        close(found, wanted, precision, 'cost', scale)

    on_both_paths(test)


def stack(layers, *shape):
    return shape if layers is None else (layers, *shape)


@fuzz('ClassificationCost', classes=st.integers(1, 6), logits=st.sampled_from(LOGITS), **SCENES)
def test_classification(seed, layers, queries, objects, dtype, kind, weight, classes, logits):
    generator = torch.Generator().manual_seed(seed)
    scores = layout(random_logits(generator, stack(layers, queries, classes), logits, dtype), kind)
    labels = torch.randint(0, classes, (objects,), generator=generator)
    compare(
        cost_of('ClassificationCost', weight=weight),
        lambda x, _: weight * reference.classification(x, labels),
        scores,
        InstanceData(labels=labels),
        dtype,
        0.1,
        single=2,
        name='scores',
    )


FOCAL = dict(
    alpha=st.sampled_from([0.0, 0.25, 1.0]),
    gamma=st.sampled_from([0.0, 2.0, 3.5]),
    eps=st.sampled_from([0.0, 1e-12, 1e-3]),
)


@fuzz('FocalLossCost', classes=st.integers(1, 6), logits=st.sampled_from(LOGITS), **FOCAL, **SCENES)
def test_focal_of_labels(seed, layers, queries, objects, dtype, kind, weight, classes, logits, alpha, gamma, eps):
    generator = torch.Generator().manual_seed(seed)
    scores = layout(random_logits(generator, stack(layers, queries, classes), logits, dtype), kind)
    labels = torch.randint(0, classes, (objects,), generator=generator)
    compare(
        cost_of('FocalLossCost', weight=weight, alpha=alpha, gamma=gamma, eps=eps),
        lambda x, _: weight * reference.focal_labels(x, labels, alpha, gamma, eps),
        scores,
        InstanceData(labels=labels),
        dtype,
        0.1,
        single=2,
        name='scores',
    )


def masks_case(seed, layers, queries, objects, dtype, kind, points, logits, mask_type, stacked_masks, ignore):
    """Predictions, objects, the masks of each layer, the weights of the points of each layer, and what to pass."""
    generator = torch.Generator().manual_seed(seed)
    pred = layout(random_logits(generator, stack(layers, queries, *points), logits, dtype), kind)
    masks_shape = (objects, *points) if layers is None or not stacked_masks else (layers, objects, *points)
    masks = torch.rand(masks_shape, generator=generator, dtype=torch.float64)
    masks = masks.to(mask_type) if mask_type.is_floating_point else (masks < 0.4).to(mask_type)
    valid = None
    if ignore is not None:
        valid = torch.rand(stack(layers, *points), generator=generator)
        valid = valid if ignore == 'weights' else (valid < (0.6 if ignore == 'some' else 0))
    of_layer = masks if masks.dim() > len(points) + 1 else [masks] * (layers or 1)
    weights = [torch.ones(points)] * (layers or 1) if valid is None else (valid if layers else valid[None])
    flat = len(points)
    return (
        pred,
        BaseDataElement(masks=masks),
        [one.double().flatten(-flat) for one in of_layer],
        [one.double().flatten() for one in weights],
        {} if valid is None else {'valid': valid},
    )


def size_of(pred):
    return max(float(pred.double().abs().max()) if pred.numel() else 0.0, 1.0)


@fuzz('FocalLossCost', **FOCAL, **POINTS, **SCENES)
def test_focal_of_masks(alpha, gamma, eps, weight, **drawn):
    pred, objects, masks, weights, call = masks_case(**drawn)
    flat = len(drawn['points'])
    compare(
        cost_of('FocalLossCost', weight=weight, alpha=alpha, gamma=gamma, eps=eps, binary_input=True),
        lambda x, i: weight * reference.focal_masks(x.flatten(-flat), masks[i], weights[i], alpha, gamma, eps),
        pred,
        objects,
        drawn['dtype'],
        size_of(pred),
        single=flat + 1,
        name='masks',
        **call,
    )


@fuzz('CrossEntropyLossCost', **POINTS, **SCENES)
def test_cross_entropy(weight, **drawn):
    pred, objects, masks, weights, call = masks_case(**drawn)
    flat = len(drawn['points'])
    compare(
        cost_of('CrossEntropyLossCost', weight=weight),
        lambda x, i: weight * reference.entropy_masks(x.flatten(-flat), masks[i], weights[i]),
        pred,
        objects,
        drawn['dtype'],
        size_of(pred),
        single=flat + 1,
        name='masks',
        **call,
    )


@fuzz(
    'DiceCost',
    eps=st.sampled_from([1e-3, 1.0]),
    naive=st.booleans(),
    act=st.booleans(),
    **POINTS,
    **SCENES,
)
def test_dice(weight, eps, naive, act, **drawn):
    pred, objects, masks, weights, call = masks_case(**drawn)
    if not act:
        pred = pred.sigmoid()
    flat = len(drawn['points'])
    compare(
        cost_of('DiceCost', weight=weight, eps=eps, naive_dice=naive, pred_act=act),
        lambda x, i: weight * reference.dice_masks(x.flatten(-flat), masks[i], weights[i], act, eps, naive),
        pred,
        objects,
        drawn['dtype'],
        1.0,
        single=flat + 1,
        name='masks',
        **call,
    )


BOXES = st.sampled_from(['usual', 'equal', 'no area', 'far'])


def boxes(generator, shape, how):
    """x1, y1, x2, y2 in pixels; coordinates of few digits, so that float16 holds them."""
    start, side = (torch.randint(0, 60, (*shape, 2), generator=generator).double() for _ in range(2))
    if how == 'no area':
        side[..., 0] *= torch.rand(shape, generator=generator) < 0.3
    if how == 'equal':
        start, side = start * 0 + 3, side * 0 + 8
    if how == 'far':
        start = start * 900
    return torch.cat((start, start + side), -1)


@fuzz('BBoxL1Cost', box_format=st.sampled_from(['xyxy', 'xywh']), how=BOXES, **SCENES)
def test_l1(seed, layers, queries, objects, dtype, kind, weight, box_format, how):
    generator = torch.Generator().manual_seed(seed)
    pred = layout(boxes(generator, stack(layers, queries), how).to(dtype), kind)
    true = boxes(generator, (objects,), how)
    compare(
        cost_of('BBoxL1Cost', weight=weight, box_format=box_format),
        lambda x, _: weight * reference.l1(x, true, 48, 64, box_format),
        pred,
        InstanceData(bboxes=true.to(torch.promote_types(dtype, torch.float32))),
        dtype,
        1.0,
        call=(dict(img_shape=(48, 64)),),
        single=2,
        name='bboxes',
    )


@fuzz('IoUCost', mode=st.sampled_from(['giou', 'iou', 'iof']), how=BOXES, **SCENES)
def test_iou(seed, layers, queries, objects, dtype, kind, weight, mode, how):
    generator = torch.Generator().manual_seed(seed)
    pred = layout(boxes(generator, stack(layers, queries), how).to(dtype), kind)
    true = boxes(generator, (objects,), how)
    compare(
        cost_of('IoUCost', weight=weight, iou_mode=mode),
        lambda x, _: -weight * reference.pairwise(lambda q, g: reference.overlap(q, g, mode), x, true),
        pred,
        InstanceData(bboxes=true.to(torch.promote_types(dtype, torch.float32))),
        dtype,
        1.0,
        single=2,
        name='bboxes',
    )


class GivenCost:
    """A cost that returns what it was given; `stacks_layers` as ours."""

    stacks_layers = True

    def __call__(self, pred_instances, gt_instances, img_meta=None, **kwargs):
        return pred_instances.cost if hasattr(pred_instances, 'cost') else pred_instances['cost']


@fuzz(
    'BatchHungarianAssigner',
    seed=SEEDS,
    layers=st.integers(1, 3),
    sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=3),
    kind=st.sampled_from(['random', 'ties', 'equal', 'huge', 'tiny', 'negative']),
    dtype=st.sampled_from(DTYPES),
    broken=st.sampled_from([None, None, *BROKEN]),
    on_invalid=st.sampled_from(['raise', 'sanitize']),
)
def test_assigner(seed, layers, sizes, kind, dtype, broken, on_invalid):
    """The summed cost is the least of all assignments, tried one by one; as few broken costs as possible are taken."""
    generator = torch.Generator().manual_seed(seed)
    costs, pred, objects = [], [], []
    for queries, number in sizes:
        cost = torch.rand(layers, queries, number, generator=generator, dtype=torch.float64)
        cost = {
            'random': cost,
            'ties': (cost * 3).round(),
            'equal': cost * 0 + 1,
            'huge': cost * 3e4,
            'tiny': cost * 1e-6,
            'negative': cost - 5,
        }[kind].to(dtype)
        if broken is not None:
            where = torch.rand(cost.shape, generator=generator) < 0.3
            cost = cost.masked_fill(where, broken)
        costs.append(cost)
        pred.append(BaseDataElement(scores=torch.zeros(layers, queries, 2), cost=cost))
        objects.append(InstanceData(labels=torch.zeros(number, dtype=torch.long)))
    assigner = TASK_UTILS.build(
        dict(type='mmplugins.BatchHungarianAssigner', match_costs=[GivenCost()], on_invalid=on_invalid)
    )
    if on_invalid == 'raise' and not all(cost.isfinite().all() for cost in costs):
        with pytest.raises(ValueError, match='matching costs must be finite, but'):
            assigner.assign_batch(pred, objects)
        return
    found = assigner.assign_batch(pred, objects)
    assert [len(layer) for layer in found] == [len(sizes)] * layers
    for layer, images in enumerate(found):
        for (query, index), cost in zip(images, costs, strict=True):
            one = cost[layer].double()
            number = min(one.shape)
            assert query.dtype == index.dtype == torch.int64
            assert query.tolist() == sorted(set(query.tolist()))
            assert len(set(index.tolist())) == len(index) == number
            finite = one.isfinite()
            taken = one[query, index]
            broken_taken = int((~taken.isfinite()).sum())
            assert broken_taken == round(reference.least_total((~finite).double()))
            if finite.all():
                best = reference.least_total(one)
                assert float(taken.sum()) <= best + 1e-6 * max(abs(best), float(one.abs().max()) if one.numel() else 0)


@fuzz(
    'SetCriterion',
    seed=SEEDS,
    layers=st.integers(1, 2),
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    queries=st.integers(0, 4),
    classes=st.integers(1, 4),
    logits=st.sampled_from(LOGITS),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(LAYOUTS[:4]),
    eos_coef=st.sampled_from([0.0, 0.125, 1.0]),
    degenerate=st.booleans(),
    given=st.booleans(),
)
def test_criterion(seed, layers, counts, queries, classes, logits, dtype, kind, eos_coef, degenerate, given):
    generator = torch.Generator().manual_seed(seed)

    def random_boxes(*shape):
        box = 0.1 + 0.8 * torch.rand(*shape, 4, generator=generator)
        return box * torch.tensor([1, 1, 0, 1]) if degenerate else box

    pred = layout(random_logits(generator, (layers, len(counts), queries, classes + 1), logits, dtype), kind)
    predicted_boxes = layout(random_boxes(layers, len(counts), queries).to(dtype), kind)
    targets = [
        dict(labels=torch.randint(0, classes, (count,), generator=generator), boxes=random_boxes(count))
        for count in counts
    ]
    pairs = [
        [
            (
                torch.randperm(queries, generator=generator)[: min(queries, count)].sort().values,
                torch.randperm(count, generator=generator)[: min(queries, count)],
            )
            for count in counts
        ]
        for _ in range(layers)
    ]
    if not given:  # the assigner's own; it must not fail
        pairs = SetCriterion(classes, hungarian()).assigner.assign_batch(
            [
                BaseDataElement(scores=pred[:, image].float(), bboxes=_corners(predicted_boxes[:, image].float()))
                for image in range(len(counts))
            ],
            [InstanceData(labels=t['labels'], bboxes=_corners(t['boxes'])) for t in targets],
            [dict(img_shape=(1, 1))] * len(counts),
        )
    criterion = SetCriterion(classes, GivenAssigner(pairs), eos_coef=eos_coef)
    exact = dict(logits=pred.double().requires_grad_(), boxes=predicted_boxes.double().requires_grad_())
    expected = reference.criterion(exact, targets, pairs, classes, eos_coef, criterion.loss_weights)
    expected_grads = torch.autograd.grad(sum(expected.values()), list(exact.values()))
    precision = torch.promote_types(dtype, torch.float32)

    def test():
        leaves = dict(logits=pred.detach().requires_grad_(), boxes=predicted_boxes.detach().requires_grad_())
        losses = criterion(leaves, targets)
        for name, value in expected.items():
            close(losses[name], value, precision, name, scale=0.2)
        grads = torch.autograd.grad(total(losses), list(leaves.values()))
        for grad, wanted, name in zip(grads, expected_grads, leaves, strict=True):
            if name == 'logits' or not degenerate:  # between boxes without an area the overlap has a corner
                close(grad, wanted.to(dtype), dtype, f'gradient of {name}', scale=0.2)
            assert grad.isfinite().all()
        assert 0 <= losses['class_error'] <= 100

    on_both_paths(test)


def _corners(boxes):
    return torch.cat((boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2), -1)


@pytest.mark.parametrize('value', BROKEN)
def test_a_broken_prediction_is_named(value):
    scores = torch.zeros(1, 1, 3, 3)
    outputs = dict(logits=broken_at(scores, torch.ones(scores.shape, dtype=torch.bool), value, torch.Generator()))
    outputs['boxes'] = torch.full((1, 1, 3, 4), 0.5)
    target = dict(labels=torch.tensor([0, 1]), boxes=torch.full((2, 4), 0.5))
    if value == float('-inf'):
        assert SetCriterion(2, hungarian())(outputs, [target])['loss_bbox'].isfinite()
        return
    with pytest.raises(ValueError, match=r'matching costs must be finite.*layer 0, image 0.*ClassificationCost'):
        SetCriterion(2, hungarian())(outputs, [target])
