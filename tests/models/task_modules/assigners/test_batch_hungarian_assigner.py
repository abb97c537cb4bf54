import subprocess
import sys
import types
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine import ConfigDict
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement, InstanceData

from mmplugins.functional.sets.boxes import cxcywh_to_xyxy
from mmplugins.models.task_modules.assigners import BatchHungarianAssigner, batch_hungarian_assigner
from mmplugins.models.task_modules.match_costs import ClassificationCost, CrossEntropyLossCost, DiceCost
from mmplugins.registry import TASK_UTILS
from mmplugins.testing import load_golden
from tests.locations import golden_files
from tests.models.task_modules.match_costs.cost_contract import needs_mmdet

NAN = float('nan')
UNIT = {'img_shape': (1, 1)}
DETR_COSTS = [
    dict(type='ClassificationCost', weight=1.0),
    dict(type='BBoxL1Cost', box_format='xywh', weight=5.0),
    dict(type='IoUCost', iou_mode='giou', weight=2.0),
]


def costs_of(scope: str) -> list[dict]:
    return [{**cost, 'type': f'{scope}.{cost["type"]}'} for cost in DETR_COSTS]


def build(**settings) -> BatchHungarianAssigner:
    settings = {'match_costs': costs_of('mmplugins'), **settings}
    return TASK_UTILS.build({'type': 'mmplugins.BatchHungarianAssigner', **settings})


def scene(objects=(4, 0, 7), layers=3, queries=6, seed=0):
    """Stacked predictions, ground truths and meta information of a batch, boxes as fractions of the image."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(*shape):
        centre, size = torch.rand(2, *shape, 2, generator=generator)
        return cxcywh_to_xyxy(torch.cat((centre, 0.05 + 0.4 * size), dim=-1))

    pred = [
        InstanceData(scores=torch.randn(layers, queries, 9, generator=generator), bboxes=boxes(layers, queries))
        for _ in objects
    ]
    true = [
        InstanceData(labels=torch.randint(0, 8, (number,), generator=generator), bboxes=boxes(number))
        for number in objects
    ]
    metas = [{**UNIT, 'img_path': f'{index}.jpg'} for index in range(len(objects))]
    return pred, true, metas


def layer_of(instances, layer: int) -> InstanceData:
    return InstanceData(**{name: value[layer] for name, value in instances.items()})


def plain(matches) -> list:
    """[layer][image] -> list of (query, ground truth)."""
    return [[list(zip(*(index.tolist() for index in pair), strict=True)) for pair in layer] for layer in matches]


class ShelfCost:
    """A user's own cost, of one layer, without a weight: the distance of the index from the label."""

    def __call__(self, pred_instances, gt_instances, img_meta=None):
        assert isinstance(pred_instances, InstanceData)
        return (torch.arange(len(pred_instances))[:, None] - gt_instances.labels[None]).abs().float()


# Smoke and shapes


def test_smoke():
    pred, true, metas = scene()
    matches = build().assign_batch(pred, true, metas)
    assert [[len(pair[0]) for pair in layer] for layer in matches] == [[4, 0, 6]] * 3
    for layer in matches:
        for query, index in layer:
            assert query.dtype == index.dtype == torch.int64
            assert query.device.type == index.device.type == 'cpu'
            assert query.tolist() == sorted(set(query.tolist()))
            assert len(set(index.tolist())) == len(index)


@pytest.mark.parametrize('objects', [(0,), (0, 0), (0, 3)])
@pytest.mark.parametrize('queries', [0, 4])
def test_nothing_to_match(objects, queries):
    matches = build().assign_batch(*scene(objects, queries=queries))
    assert [[len(pair[0]) for pair in layer] for layer in matches] == [[min(n, queries) for n in objects]] * 3


def test_no_image():
    assert build().assign_batch([], []) == []


def test_any_object_will_do_for_instances():
    pred, true, metas = scene()
    expected = plain(build().assign_batch(pred, true, metas))
    others = [[types.SimpleNamespace(**dict(item.items())) for item in items] for items in (pred, true)]
    assert plain(build().assign_batch(*others, metas)) == expected
    others = [[BaseDataElement(**dict(item.items())) for item in items] for items in (pred, true)]
    assert plain(build().assign_batch(*others, metas)) == expected


# Values


def test_by_hand():
    """Two layers; the second prefers what the first does not. Costs are minus probabilities."""
    scores = torch.tensor([[[9.0, 0], [0, 9]], [[0, 9], [9, 0]]])
    assigner = build(match_costs=dict(type='mmplugins.ClassificationCost'))
    matches = assigner.assign_batch([InstanceData(scores=scores)], [InstanceData(labels=torch.tensor([1, 0]))])
    assert plain(matches) == [[[(0, 1), (1, 0)]], [[(0, 0), (1, 1)]]]


def golden_pairs(golden: dict, layers: int, images: int) -> list:
    return plain(
        [(golden[f'match_query_{layer}_{b}'], golden[f'match_gt_{layer}_{b}']) for b in range(images)]
        for layer in range(layers)
    )


@pytest.mark.parametrize('path', golden_files('detr_[0-9].npz'))
def test_golden_detr(path):
    golden = load_golden(path)
    layers, images = golden['logits'].shape[:2]
    corners = cxcywh_to_xyxy(golden['boxes'])
    pred = [InstanceData(scores=golden['logits'][:, b], bboxes=corners[:, b]) for b in range(images)]
    true = [
        InstanceData(labels=golden[f'gt_labels{b}'], bboxes=cxcywh_to_xyxy(golden[f'gt_boxes{b}']))
        for b in range(images)
    ]
    assert (golden['cost_class'], golden['cost_bbox'], golden['cost_giou']) == (1, 5, 2)
    assert plain(build().assign_batch(pred, true, [UNIT] * images)) == golden_pairs(golden, layers, images)


def match_masks(golden, assigner, compared):
    """Matches classes and masks; ``compared`` gives an image's masks, (L, Q, ...) and (L, G, ...) or (G, ...)."""
    layers, images = golden['logits'].shape[:2]
    pred, true = [], []
    for b in range(images):
        masks, targets = compared(b)
        pred.append(InstanceData(scores=golden['logits'][:, b], masks=masks))
        true.append(BaseDataElement(labels=golden[f'gt_labels{b}'], masks=targets))
    assert plain(assigner.assign_batch(pred, true)) == golden_pairs(golden, layers, images)


def sampled(maps, coords):
    """Maps (N, H, W) at points x, y in [0, 1], (P, 2); gives (N, P)."""
    return F.grid_sample(maps[None].float(), 2 * coords[None, None] - 1, align_corners=False)[0, :, 0]


@pytest.mark.parametrize('path', golden_files('mask2former_[0-9].npz'))
def test_golden_mask2former(path):
    golden = load_golden(path)
    weights = [golden[f'cost_{name}'] for name in ('class', 'mask', 'dice')]
    kinds = ['ClassificationCost', 'CrossEntropyLossCost', 'DiceCost']
    costs = [dict(type=f'mmplugins.{kind}', weight=weight) for kind, weight in zip(kinds, weights, strict=True)]
    costs[2].update(pred_act=True, eps=1.0)

    def compared(b):
        coords = [golden[f'match_coords_{layer}_{b}'] for layer in range(len(golden['logits']))]
        masks = [sampled(golden['mask_logits'][layer, b], coords[layer]) for layer in range(len(coords))]
        targets = golden[f'gt_masks{b}']
        targets = [sampled(targets, c) if len(targets) else targets.new_zeros(0, len(c)) for c in coords]
        return torch.stack(masks), torch.stack(targets)

    match_masks(golden, build(match_costs=costs), compared)


@pytest.mark.parametrize('path', golden_files('maskformer_[0-9].npz'))
def test_golden_maskformer(path):
    golden = load_golden(path)
    costs = [
        dict(type='mmplugins.ClassificationCost', weight=golden['cost_class']),
        dict(type='mmplugins.FocalLossCost', binary_input=True, weight=golden['cost_mask']),
        dict(type='mmplugins.DiceCost', pred_act=True, eps=1.0, weight=golden['cost_dice']),
    ]

    def compared(b):  # the released matcher takes every so many pixels of the ground truth
        masks, targets = golden['mask_logits'][:, b], golden[f'gt_masks{b}']
        if len(targets):
            targets = F.interpolate(targets[None].float(), masks.shape[-2:], mode='nearest')[0]
        return masks, targets

    match_masks(golden, build(match_costs=costs), compared)


# Identities


@settings(max_examples=30, deadline=None)
@given(
    objects=st.lists(st.integers(0, 8), min_size=1, max_size=4),
    layers=st.integers(1, 4),
    queries=st.integers(0, 7),
    seed=st.integers(0, 1000),
)
def test_together_equals_one_by_one(objects, layers, queries, seed):
    pred, true, metas = scene(objects, layers, queries, seed)
    assigner = build()
    together = plain(assigner.assign_batch(pred, true, metas))
    for image in range(len(objects)):
        for layer in range(layers):
            alone = InstanceData(**{name: value[layer : layer + 1] for name, value in pred[image].items()})
            matches = assigner.assign_batch([alone], [true[image]], [metas[image]])
            assert plain(matches) == [[together[layer][image]]]


@needs_mmdet
@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('scope', ['mmplugins', 'mmdet'])
def test_equals_mmdet(seed, scope):
    """Also with mmdet's costs, which know nothing of layers; more ground truths than queries among them."""
    from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner, HungarianAssigner

    pred, true, metas = scene((5, 0, 1, 30), 4, 20, seed)
    for instances, meta in zip([*pred, *true], 2 * metas, strict=True):
        meta['img_shape'] = (480, 640)
        instances.bboxes = instances.bboxes * torch.tensor([640, 480, 640, 480])
    assigner, theirs = build(match_costs=costs_of(scope)), HungarianAssigner(costs_of('mmdet'))
    assert isinstance(assigner, BaseAssigner)
    together = assigner.assign_batch(pred, true, metas)
    for layer in range(4):
        for image in range(4):
            one = layer_of(pred[image], layer)
            expected = theirs.assign(one, true[image], metas[image])
            result = assigner.assign(one, true[image], metas[image])
            assert type(result) is AssignResult
            assert (result.num_gts, result.max_overlaps) == (expected.num_gts, None)
            for name in ('gt_inds', 'labels'):
                assert torch.equal(getattr(result, name), getattr(expected, name))
                assert getattr(result, name).dtype == torch.int64
            query, index = together[layer][image]
            assert torch.equal(query, (expected.gt_inds > 0).nonzero()[:, 0])
            assert torch.equal(index, expected.gt_inds[query] - 1)


@needs_mmdet
@pytest.mark.parametrize(('queries', 'objects'), [(0, 3), (4, 0), (0, 0)])
def test_assign_without_queries_or_objects_is_mmdets(queries, objects):
    from mmdet.models.task_modules.assigners import HungarianAssigner

    (pred,), (true,), (meta,) = scene((objects,), 1, queries)
    result = build().assign(layer_of(pred, 0), true, meta)
    expected = HungarianAssigner(costs_of('mmdet')).assign(layer_of(pred, 0), true, meta)
    assert torch.equal(result.gt_inds, expected.gt_inds)
    assert torch.equal(result.labels, expected.labels)
    assert result.num_gts == expected.num_gts


# Configs


def test_configs_of_costs():
    config = dict(type='mmplugins.ClassificationCost', weight=2.0)
    for costs in (config, ConfigDict(config), [config], [ClassificationCost(2.0)], ClassificationCost(2.0)):
        assert [repr(cost) for cost in build(match_costs=costs).match_costs] == ['ClassificationCost(weight=2.0)']
    assert config == dict(type='mmplugins.ClassificationCost', weight=2.0)


@needs_mmdet
def test_costs_without_prefix_are_of_the_default_scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        modules = {type(cost).__module__.split('.')[0] for cost in build(match_costs=DETR_COSTS).match_costs}
        assert modules == {'mmdet'}
    with DefaultScope.overwrite_default_scope('mmplugins'):
        modules = {type(cost).__module__.split('.')[0] for cost in build(match_costs=DETR_COSTS).match_costs}
        assert modules == {'mmplugins'}


def test_a_users_cost():
    """Labels 2, 0 of three queries: query 2 goes to the first, query 0 to the second; in every layer."""
    pred, true = InstanceData(scores=torch.zeros(2, 3, 4)), InstanceData(labels=torch.tensor([2, 0]))
    matches = build(match_costs=ShelfCost()).assign_batch([pred], [true])
    assert plain(matches) == [[[(0, 1), (2, 0)]]] * 2


def test_costs_of_one_layer_get_one_layer():
    """Masks and valid points are taken apart as well; values are those of our own costs."""

    class OneLayer(CrossEntropyLossCost):
        stacks_layers = False

        def __call__(self, pred_instances, gt_instances, img_meta=None, valid=None):
            assert pred_instances.masks.dim() == 2
            assert gt_instances.masks.dim() == 2
            assert valid.dim() == 1
            return super().__call__(pred_instances, gt_instances, img_meta, valid)

    generator = torch.Generator().manual_seed(0)
    masks, targets = torch.randn(3, 6, 20, generator=generator), torch.rand(3, 4, 20, generator=generator)
    pred = [InstanceData(scores=masks[..., :5], masks=masks)]
    both, none = ('masks', 'valid'), ()
    for true_masks, valid, stacked in ((targets, targets[:, 0] > 0.5, both), (targets[0], targets[0, 0] > 0.5, none)):
        true = [BaseDataElement(labels=torch.arange(4), masks=true_masks)]
        options = {'stacked': stacked, 'valid': [valid]}
        expected = build(match_costs=CrossEntropyLossCost()).assign_batch(pred, true, **options)
        assert plain(build(match_costs=OneLayer()).assign_batch(pred, true, **options)) == plain(expected)


def test_values_for_the_costs():
    """The second image has its only good point left out; None is not handed on."""
    masks = torch.tensor([[[9.0, -9], [-9, 9]]])
    pred = [InstanceData(scores=torch.zeros(1, 2, 3), masks=masks)] * 2
    true = [InstanceData(labels=torch.tensor([0]), masks=torch.tensor([[1, 1]]))] * 2
    for left, expected in (([True, False], [(0, 0)]), ([False, True], [(1, 0)])):
        matches = build(match_costs=DiceCost(pred_act=True)).assign_batch(pred, true, valid=[None, torch.tensor(left)])
        assert plain(matches)[0][1] == expected
    matches = build(match_costs=ShelfCost()).assign_batch(pred, true, valid=[None, None], more=None)
    assert plain(matches) == [[[(0, 0)]] * 2]


def test_pixels_of_one_layer_are_not_taken_for_layers():
    """``assign`` knows that (4, 6, 5) beside (4, 6, 5) is 4 queries of 6 x 5 pixels."""
    if batch_hungarian_assigner._PROBLEM:
        pytest.skip(batch_hungarian_assigner._PROBLEM)
    masks = torch.rand(4, 6, 5, generator=torch.Generator().manual_seed(0))
    pred, true = InstanceData(masks=masks), InstanceData(labels=torch.arange(4), masks=masks.flip(0))
    result = build(match_costs=DiceCost(naive_dice=False)).assign(pred, true)
    assert result.gt_inds.tolist() == [4, 3, 2, 1]
    assert result.labels.tolist() == [3, 2, 1, 0]


# Errors


def test_settings_are_checked():
    with pytest.raises(AssertionError, match=r'match_costs must not be empty; give at least one, such as dict\(type='):
        BatchHungarianAssigner([])
    with pytest.raises(ValueError, match=r"on_invalid must be one of \('raise', 'sanitize'\), got 'ignore'; 'raise' "):
        build(on_invalid='ignore')
    with pytest.raises(TypeError):
        BatchHungarianAssigner([1])


@needs_mmdet
def test_labels_must_be_a_tensor():
    with pytest.raises(AssertionError, match=r'gt_instances.labels must be a tensor \(G,\), got list; convert it'):
        build().assign(InstanceData(scores=torch.zeros(2, 3)), InstanceData(labels=[1]))


def test_calls_are_checked():
    pred, true, metas = scene()
    with pytest.raises(ValueError, match=r"one entry for each of 3 images, got \{'gt_instances': 2, 'img_metas': 3\}"):
        build().assign_batch(pred, true[:2], metas)
    with pytest.raises(ValueError, match=r"one entry for each of 3 images, got .*'valid': 1\}"):
        build().assign_batch(pred, true, metas, valid=[None])
    with pytest.raises(ValueError, match=r'expected as many layers in every image, got \[3, 2, 3\]'):
        build().assign_batch([pred[0], scene(layers=2)[0][1], pred[2]], true, metas)
    with pytest.raises(ValueError, match=r"with one of \('scores', 'bboxes', 'masks'\), got \['points'\]"):
        build().assign_batch([InstanceData(points=torch.zeros(2, 3, 4))], true[:1], metas[:1])


def test_shape_of_a_cost_is_checked():
    pred, true, metas = scene((2,))
    message = r'expected a cost of shape \(3, 6, 2\) \(layers, queries, objects\) from function, got \(3, 6, 1\)'
    with pytest.raises(ValueError, match=message):
        build(match_costs=[lambda pred_instances, gt_instances, img_meta: torch.zeros(6, 1)]).assign_batch(
            pred, true, metas
        )


# Costs that are not finite


def test_error_names_layer_image_file_term_and_count():
    pred, true, metas = scene((4, 5, 3))
    pred[1].scores[2, 4, 0] = NAN  # the whole query, for 5 ground truths
    pred[2].bboxes[0, 1] = NAN
    with pytest.raises(ValueError) as error:  # noqa: PT011
        build().assign_batch(pred, true, metas)
    message = str(error.value)
    assert message.startswith(
        'matching costs must be finite, but 5 of 30 are not in layer 2, image 1 (1.jpg), by term ClassificationCost: 5;'
    )
    assert '1 other layers or images have such costs too' in message
    assert "lower the learning rate or clip gradients, or set on_invalid='sanitize'" in message
    with pytest.raises(ValueError, match=r'3 of 18 are not in layer 0, image 0 \(2.jpg\), by term BBoxL1Cost: 3, IoU'):
        build().assign_batch(pred[2:], true[2:], metas[2:])


def test_error_without_a_file_name():
    pred, true, _ = scene((4,))
    pred[0].scores[1] = NAN
    with pytest.raises(
        ValueError, match=r'24 of 24 are not in layer 1, image 0, by term ClassificationCost: 24; 0 oth'
    ):
        build(match_costs=ClassificationCost()).assign_batch(pred, true)


def test_error_of_a_sum():
    huge = [lambda pred_instances, gt_instances, img_meta: torch.full((6, 4), 3e38)] * 2
    with pytest.raises(ValueError, match='24 of 24 are not in layer 0, image 0, by term none, only their sum'):
        build(match_costs=huge).assign_batch(*scene((4,))[:2])


@needs_mmdet
def test_assign_raises_too():
    (pred,), (true,), (meta,) = scene((4,))
    pred = layer_of(pred, 0)
    pred.scores[0, 0] = NAN
    with pytest.raises(
        ValueError, match=r'4 of 24 are not in layer 0, image 0 \(0.jpg\), by term ClassificationCost: 4'
    ):
        build().assign(pred, true, meta)
    assert (build(on_invalid='sanitize').assign(pred, true, meta).gt_inds > 0).sum() == 4


def test_an_image_without_ground_truths_may_be_invalid():
    pred, true, metas = scene((0, 2))
    pred[0].scores[:] = NAN
    assert [len(pair[0]) for pair in build().assign_batch(pred, true, metas)[0]] == [0, 2]


def test_sanitize_matches_the_rest_and_logs():
    pred, true, metas = scene((4, 0, 5))
    expected = plain(build().assign_batch(pred, true, metas))
    hub = MessageHub.get_instance('sanitize')
    assigner = build(on_invalid='sanitize')
    assert plain(assigner.assign_batch(pred, true, metas)) == expected
    assert hub.get_scalar('train/invalid_costs').current() == 0
    free = next(query for query in range(6) if query not in dict(expected[1][0]))
    pred[0].scores[1, free] = NAN  # a query that was not matched
    pred[2].bboxes[2, :] = NAN  # every query of a layer
    matches = plain(assigner.assign_batch(pred, true, metas))
    assert matches[:2] == expected[:2]
    assert matches[2][0] == expected[2][0]
    assert len(matches[2][2]) == 5
    assert hub.get_scalar('train/invalid_costs').current() == 4 + 6 * 5


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_degenerate_predictions(data):
    """Boxes of any shape and size match without an error; with values that are not finite they do under 'sanitize'."""
    pred, true, metas = scene((3, 8))
    number = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 1e-30]), st.floats(-1e3, 1e3, width=32))
    for image in range(2):
        values = data.draw(st.lists(number, min_size=8, max_size=8))
        pred[image].bboxes[0, :2] = torch.tensor(values).view(2, 4)
        true[image].bboxes[0] = torch.tensor(values[:4])
    expected = build().assign_batch(pred, true, metas)
    assert [[len(pair[0]) for pair in layer] for layer in expected] == [[3, 6]] * 3
    pred[0].bboxes[1, 2, 1] = data.draw(st.sampled_from([NAN, float('inf'), float('-inf'), 3e38]))
    matches = build(on_invalid='sanitize').assign_batch(pred, true, metas)
    assert plain(matches)[0] == plain(expected)[0]
    assert len(matches[1][0][0]) == 3


# Gradient, dtype, hosts, device


def test_no_gradient_is_computed():
    pred, true, metas = scene()
    for image in pred:
        image.scores.requires_grad_()
    seen = []

    def cost(pred_instances, gt_instances, img_meta):
        value = ClassificationCost()(pred_instances, gt_instances)
        seen.append(value.requires_grad)
        return value

    build(match_costs=[cost]).assign_batch(pred, true, metas)
    assert seen
    assert not any(seen)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_and_autocast(dtype):
    pred, true, metas = scene()
    for image in pred:
        image.scores, image.bboxes = image.scores.to(dtype), image.bboxes.to(dtype)
    precise = [InstanceData(scores=image.scores.double(), bboxes=image.bboxes.double()) for image in pred]
    expected = plain(build().assign_batch(precise, true, metas))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert plain(build().assign_batch(pred, true, metas)) == expected


@needs_mmdet
def test_mmdets_costs_may_be_half():
    pred, true, metas = scene()
    pred = [image.to(torch.bfloat16) for image in pred]
    for costs in (['mmdet.ClassificationCost'], ['mmdet.ClassificationCost', 'mmplugins.IoUCost']):
        assigner = build(match_costs=[dict(type=cost) for cost in costs])
        assert len(assigner.assign_batch(pred, true, metas)) == 3


def test_without_mmdet_batches_work_and_assign_says_what_is_missing():
    """In a fresh interpreter to which mmdet is not there."""
    code = """
import sys
sys.modules['mmdet'] = None
import torch
from mmengine.structures import InstanceData
from mmplugins.registry import TASK_UTILS
assigner = TASK_UTILS.build(dict(type='mmplugins.BatchHungarianAssigner', match_costs=dict(type='mmplugins.DiceCost')))
pred, true = InstanceData(masks=torch.eye(3)[None]), InstanceData(labels=torch.arange(2), masks=torch.eye(3)[1:])
print([index.tolist() for index in assigner.assign_batch([pred], [true])[0][0]])
try:
    assigner.assign(pred, true)
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pairs, message = done.stdout.splitlines()
    assert pairs == '[[1, 2], [0, 1]]'
    assert message.startswith('BatchHungarianAssigner.assign needs mmdet: ')
    assert 'run `pip install' in message


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('on_invalid', ['raise', 'sanitize'])
def test_cuda_equals_cpu_and_waits_once(on_invalid):
    pred, true, metas = scene((4, 0, 7, 2), 6, 20)
    expected = plain(build().assign_batch(pred, true, metas))
    pred, true = ([item.to('cuda') for item in items] for items in (pred, true))
    assigner = build(on_invalid=on_invalid)
    assigner.assign_batch(pred, true, metas)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            matches = assigner.assign_batch(pred, true, metas)
        finally:
            torch.cuda.set_sync_debug_mode('default')
    assert len([warning for warning in found if 'synchroniz' in str(warning.message)]) == 1
    assert plain(matches) == expected
