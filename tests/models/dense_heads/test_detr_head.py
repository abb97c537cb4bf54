import copy
import inspect

import pytest
import torch

from mmplugins.hosts import problem_with

if problem_with('mmdet'):
    pytest.skip(problem_with('mmdet'), allow_module_level=True)

from mmdet.models.dense_heads import DETRHead as ToolboxDETRHead
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from mmplugins.models.dense_heads import DETRHead, set_head
from mmplugins.registry import MODELS
from mmplugins.testing import assert_relative, load_golden
from tests.locations import golden_files
from tests.models.dense_heads.detr_models import (
    LOSS_CLS,
    OUR_COSTS,
    TOOLBOX_COSTS,
    batch,
    losses_and_gradients,
    our_head,
    toolbox_head,
)

LOGGED = {'class_error', 'cardinality_error'}


def assert_equal_to_toolbox(theirs, ours, counts, at_once=True, **settings) -> None:
    """Losses and gradients within 5e-5."""
    data = batch(counts, **settings)
    expected, gradients = losses_and_gradients(theirs, *data)
    losses, found = losses_and_gradients(ours, *data)
    assert set(losses) - set(expected) == (LOGGED if at_once else set())
    for name, value in expected.items():
        assert_relative(losses[name], value.detach().view(()), 5e-5, name)  # with sync mmdet's is of shape (1,)
    for gradient, value in zip(found, gradients, strict=True):
        assert_relative(gradient, value, 5e-5, 'gradient')


def samples(instances, metas) -> list[DetDataSample]:
    found = []
    for one, meta in zip(instances, metas, strict=True):
        found.append(DetDataSample(metainfo=meta))
        found[-1].gt_instances = one
    return found


# smoke


def test_smoke():
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = MODELS.build(dict(type='mmplugins.DETRHead', num_classes=5, embed_dims=16))
    hidden, instances, metas = batch((3, 0))
    losses = head.loss(hidden, samples(instances, metas))
    names = ['loss_cls', 'loss_bbox', 'loss_iou']
    names += [f'd{layer}.{name}' for layer in (0, 1) for name in names]
    assert list(losses) == [*names, 'class_error', 'cardinality_error']
    assert all(value.isfinite() and value.requires_grad == (name in names) for name, value in losses.items())
    assert isinstance(head, ToolboxDETRHead)


def test_arguments_are_the_toolbox_s():
    ours, theirs = (inspect.signature(cls.__init__).parameters for cls in (DETRHead, ToolboxDETRHead))
    assert list(ours) == list(theirs)
    for name in ('embed_dims', 'num_reg_fcs', 'sync_cls_avg_factor', 'init_cfg'):
        assert ours[name].default == theirs[name].default
    for name in ('loss_bbox', 'loss_iou', 'test_cfg'):
        assert ours[name].default == theirs[name].default
    assert list(toolbox_head().state_dict()) == list(our_head(toolbox_head()).state_dict())


def test_configs_are_not_changed():
    """mmdet's writes tensors into its own defaults, so that a second head of the default loss cannot be built."""
    config = ConfigDict(
        loss_cls=dict(LOSS_CLS),
        train_cfg=dict(assigner=dict(type='mmplugins.BatchHungarianAssigner', match_costs=OUR_COSTS)),
    )
    before = copy.deepcopy(config)
    for _ in range(2):
        our_head(toolbox_head(), **config)
        our_head(toolbox_head())
    assert config == before


# values


@pytest.mark.parametrize('counts', [(3, 0, 5), (1,), (0, 0), (12, 2), (8, 8)])
def test_equals_the_toolbox(counts):
    theirs = toolbox_head()
    assert_equal_to_toolbox(theirs, our_head(theirs), counts)


def test_equals_the_toolbox_on_many_batches():
    theirs = toolbox_head()
    ours = our_head(theirs)
    for seed in range(20):
        counts = torch.randint(0, 7, (4,), generator=torch.Generator().manual_seed(seed)).tolist()
        assert_equal_to_toolbox(theirs, ours, tuple(counts), seed=seed)


@pytest.mark.parametrize(
    'settings',
    [
        {'loss_cls': dict(LOSS_CLS, class_weight=2.0, bg_cls_weight=0.3, loss_weight=0.5)},
        {'loss_cls': dict(type='CrossEntropyLoss', class_weight=1.0)},
        {'loss_cls': dict(type='CrossEntropyLoss')},
        {'loss_bbox': dict(type='L1Loss', loss_weight=3.0), 'loss_iou': dict(type='GIoULoss', loss_weight=0.7)},
        {'sync_cls_avg_factor': True},
    ],
    ids=['class weights', 'one class weight', 'no class weights', 'loss weights', 'sync'],
)
@pytest.mark.parametrize('counts', [(3, 0, 5), (0, 0)])
def test_equals_the_toolbox_with_other_weights(settings, counts):
    theirs = toolbox_head(**copy.deepcopy(settings))
    assert_equal_to_toolbox(theirs, our_head(theirs, **settings), counts)


def test_few_queries_average_as_the_toolbox_does():
    """The no-object weights of 2 queries sum to less than 1, by which mmdet divides."""
    theirs = toolbox_head()
    assert_equal_to_toolbox(theirs, our_head(theirs), (0,), queries=2)


@pytest.mark.parametrize('costs', [TOOLBOX_COSTS, OUR_COSTS], ids=['toolbox', 'ours'])
def test_our_assigner_takes_both_costs(costs):
    theirs = toolbox_head()
    assigner = dict(type='mmplugins.BatchHungarianAssigner', match_costs=costs)
    assert_equal_to_toolbox(theirs, our_head(theirs, train_cfg=dict(assigner=assigner)), (3, 0, 5))


def test_costs_see_pixels():
    """As in mmdet, so that a user's own cost means the same."""
    seen = []

    def cost(pred_instances, gt_instances, img_meta, **kwargs):
        seen.append((pred_instances.bboxes.max(), gt_instances.bboxes, img_meta['img_shape']))
        return torch.zeros(len(pred_instances.bboxes), len(gt_instances.labels))

    head = our_head(toolbox_head())
    head.assigner.match_costs = [cost]
    hidden, instances, metas = batch((3,))
    head.loss_by_feat(*head(hidden), instances, metas)
    assert len(seen) == 3
    for largest, boxes, img_shape in seen:
        assert 100 < largest < 1200
        torch.testing.assert_close(boxes, instances[0].bboxes)
        assert img_shape == metas[0]['img_shape']


def test_box_types_are_taken():
    head = our_head(toolbox_head())
    hidden, instances, metas = batch((3, 0))
    expected = head.loss_by_feat(*head(hidden), instances, metas)
    for one in instances:
        one.bboxes = HorizontalBoxes(one.bboxes)
    for name, value in head.loss_by_feat(*head(hidden), instances, metas).items():
        assert torch.equal(value, expected[name])


def test_logged_errors_by_hand():
    """One object, predicted as another class by the query that has its box; all 8 queries predict some class."""
    head = our_head(toolbox_head())
    logits = torch.zeros(1, 1, 8, 6)
    logits[..., 2] = 9
    boxes = torch.full((1, 1, 8, 4), 0.1)
    _, instances, metas = batch((1,))
    instances[0].labels = torch.tensor([1])
    losses = head.loss_by_feat(logits, boxes, instances, metas)
    assert float(losses['class_error']) == 100
    assert float(losses['cardinality_error']) == 7


def test_changed_loss_weight_counts():
    head = our_head(toolbox_head())
    hidden, instances, metas = batch((3,))
    before = head.loss_by_feat(*head(hidden), instances, metas)
    head.loss_bbox.loss_weight *= 2
    after = head.loss_by_feat(*head(hidden), instances, metas)
    torch.testing.assert_close(after['d0.loss_bbox'], 2 * before['d0.loss_bbox'])


# mmdet's own way


class OtherDETRHead(DETRHead):
    def get_targets(self, *args):
        self.asked = True
        return super().get_targets(*args)


@pytest.mark.parametrize(
    ('settings', 'reason'),
    [
        ({'loss_cls': dict(type='FocalLoss', use_sigmoid=True)}, "{'loss_cls': 'FocalLoss'}"),
        ({'loss_cls': dict(type='CrossEntropyLoss', use_sigmoid=True)}, "{'loss_cls': 'CrossEntropyLoss'}"),
        ({'loss_cls': dict(LOSS_CLS, ignore_index=2)}, "{'loss_cls': 'CrossEntropyLoss'}"),
        ({'loss_cls': dict(type='QualityFocalLoss')}, "{'loss_cls': 'QualityFocalLoss'}"),
        ({'loss_bbox': dict(type='SmoothL1Loss')}, "{'loss_bbox': 'SmoothL1Loss'}"),
        ({'loss_iou': dict(type='DIoULoss')}, "{'loss_iou': 'DIoULoss'}"),
        (
            {'train_cfg': dict(assigner=dict(type='HungarianAssigner', match_costs=TOOLBOX_COSTS))},
            'HungarianAssigner has no assign_batch, use mmplugins.BatchHungarianAssigner',
        ),
    ],
    ids=['focal', 'sigmoid', 'ignored label', 'quality', 'smooth L1', 'DIoU', 'assigner'],
)
def test_what_is_not_detr_s_goes_the_toolbox_s_way(settings, reason, monkeypatch):
    told = []
    monkeypatch.setattr(set_head, 'print_log', lambda message, *args: told.append(message))
    theirs = toolbox_head(**copy.deepcopy(settings))
    ours = our_head(theirs, **settings)
    assert_equal_to_toolbox(theirs, ours, (3, 0, 5), at_once=False)
    ours.loss(*(lambda hidden, instances, metas: (hidden, samples(instances, metas)))(*batch((2,))))
    (message,) = told
    assert message.startswith('DETRHead computes its losses as mmdet does, layer by layer: ')
    assert reason in message


def test_an_overridden_step_goes_the_toolbox_s_way():
    theirs = toolbox_head()
    ours = our_head(theirs, OtherDETRHead)
    assert_equal_to_toolbox(theirs, ours, (3, 0, 5), at_once=False)
    assert ours.asked


# errors


def test_wrong_class_weights_raise():
    for name in ('class_weight', 'bg_cls_weight'):
        with pytest.raises(TypeError, match=f'{name} of loss_cls must be a number, got list; all classes share one'):
            our_head(toolbox_head(), loss_cls=dict(LOSS_CLS, **{name: [1.0] * 6}))


def test_wrong_ground_truth_names_the_image():
    head = our_head(toolbox_head())
    hidden, instances, metas = batch((3, 2))
    instances[1].bboxes[0, 2] = instances[1].bboxes[0, 0] - 5
    with pytest.raises(ValueError, match=r'object 0 of 1.jpg has the box \(cx, cy, w, h\) = .* check the annotation'):
        head.loss_by_feat(*head(hidden), instances, metas)
    _, instances, _ = batch((3, 2))
    instances[0].labels[2] = 5
    with pytest.raises(ValueError, match=r'object 2 of 0.jpg has the label 5, but there are 5 classes'):
        head.loss_by_feat(*head(hidden), instances, metas)


def test_ignored_objects_raise():
    head = our_head(toolbox_head())
    hidden, instances, metas = batch((3,))
    with pytest.raises(ValueError, match='DETRHead has no use for batch_gt_instances_ignore'):
        head.loss_by_feat(*head(hidden), instances, metas, instances)


def test_without_training_there_is_no_assigner():
    head = our_head(toolbox_head(), train_cfg=None, test_cfg=dict(max_per_img=8))
    assert head.criterion is None
    hidden, instances, metas = batch((3,))
    assert len(head.predict(hidden, samples(instances, metas))[0]) == 8


# prediction


@pytest.mark.parametrize('path', golden_files('detr_[0-9].npz'))
def test_golden_post_processing(path):
    """The released code keeps the queries' order and lets boxes reach beyond the image; mmdet sorts and clips."""
    golden = load_golden(path)
    queries = golden['logits'].shape[2]
    head = our_head(toolbox_head(golden['num_classes']), test_cfg=dict(max_per_img=queries))
    metas = [{'img_shape': tuple(size), 'scale_factor': (1.0, 1.0)} for size in golden['target_sizes'].tolist()]
    for image, found in enumerate(head.predict_by_feat(golden['logits'], golden['boxes'], metas)):
        scores, order = golden[f'post_scores{image}'].sort(descending=True)
        height, width = metas[image]['img_shape']
        boxes = golden[f'post_boxes{image}'][order].clamp(min=0)
        boxes = torch.minimum(boxes, torch.tensor([width, height, width, height]))
        assert_relative(found.scores, scores, 1e-5, 'scores')
        assert torch.equal(found.labels, golden[f'post_labels{image}'][order])
        assert_relative(found.bboxes, boxes, 1e-5, 'boxes')


def test_golden_post_processing_keeps_the_best():
    golden = load_golden(golden_files('detr_0.npz')[0].values[0])
    head = our_head(toolbox_head(golden['num_classes']), test_cfg=dict(max_per_img=3))
    metas = [{'img_shape': (480, 640), 'scale_factor': (1.0, 1.0)}] * 2
    for image, found in enumerate(head.predict_by_feat(golden['logits'], golden['boxes'], metas)):
        assert_relative(found.scores, golden[f'post_scores{image}'].topk(3).values, 1e-5, 'scores')


def test_predictions_are_the_toolbox_s():
    theirs = toolbox_head(test_cfg=dict(max_per_img=5))
    ours = our_head(theirs, test_cfg=dict(max_per_img=5))
    hidden, instances, metas = batch((3, 2))
    given = samples(instances, metas)
    for rescale in (True, False):
        for found, expected in zip(
            ours.predict(hidden, given, rescale), theirs.predict(hidden, given, rescale), strict=True
        ):
            for name, value in expected.items():
                assert torch.equal(found[name], value)
    losses, found = ours.loss_and_predict(hidden, given)
    assert set(losses) >= LOGGED
    assert torch.equal(found[0].scores, theirs.predict(hidden, given)[0].scores)


# dtype and autocast


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_predictions_are_computed_in_float32(dtype):
    head = our_head(toolbox_head())
    hidden, instances, metas = batch((3, 0))
    logits, boxes = (value.detach().to(dtype) for value in head(hidden))
    expected = head.loss_by_feat(logits.float(), boxes.float(), instances, metas)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = head.loss_by_feat(logits, boxes, instances, metas)
    for name, value in expected.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == torch.float32


# device


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_equals_cpu():
    head = our_head(toolbox_head())
    hidden, instances, metas = batch((3, 0, 5))
    expected, gradients = losses_and_gradients(head, hidden, instances, metas)
    instances = [one.to('cuda') for one in instances]
    losses, found = losses_and_gradients(head.cuda(), hidden.cuda(), instances, metas)
    for name, value in losses.items():
        assert_relative(value, expected[name].detach(), 1e-4, name)
    for gradient, value in zip(found, gradients, strict=True):
        assert_relative(gradient, value, 1e-4, 'gradient')
