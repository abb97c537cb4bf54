import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmplugins.functional.device import DeferredReads
from mmplugins.functional.sets.boxes import aligned_overlap, cxcywh_to_xyxy
from mmplugins.models.losses import SetCriterion
from mmplugins.registry import MODELS
from mmplugins.testing import assert_relative, load_golden
from tests.locations import golden_files
from tests.models.losses.set_scenes import (
    GivenAssigner,
    golden_pairs,
    golden_targets,
    hungarian,
    scene,
    total,
)


def build(**settings) -> SetCriterion:
    settings = {'num_classes': 4, 'assigner': hungarian(), **settings}
    return MODELS.build(dict(type='mmplugins.SetCriterion', **settings))


def one(outputs: dict, layer: int) -> dict:
    """A single layer of the predictions, as a layer of its own."""
    return {key: value[layer : layer + 1] for key, value in outputs.items()}


# smoke


def test_smoke():
    outputs, targets = scene()
    losses = build()(outputs, targets)
    total(losses).backward()
    names = ['loss_cls', 'loss_bbox', 'loss_iou', 'd0.loss_cls', 'd0.loss_bbox', 'd0.loss_iou']
    assert list(losses) == [*names, 'class_error', 'cardinality_error']
    assert all(value.shape == () and value.dtype == torch.float32 for value in losses.values())
    assert all(value.requires_grad == ('loss' in name) for name, value in losses.items())
    assert all(value.grad.isfinite().all() and value.grad.abs().sum() > 0 for value in outputs.values())


def test_losses_can_be_left_out():
    outputs, targets = scene()
    assert list(build(losses=['labels'])(outputs, targets)) == ['loss_cls', 'd0.loss_cls', 'class_error']
    assert list(build(losses=['cardinality'])(outputs, targets)) == ['cardinality_error']
    del outputs['boxes']
    costs = hungarian(dict(type='mmplugins.ClassificationCost'))
    assert 'loss_cls' in build(losses=['labels'], assigner=costs)(outputs, [{'labels': t['labels']} for t in targets])


# errors


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'num_classes': 0}, 'num_classes counts the classes without no-object, at least 1, got 0'),
        (
            {'losses': ['labels', 'points']},
            r"losses must be a list of some of \('labels', .* got \['labels', 'points'\]",
        ),
        ({'losses': 'labels'}, "losses must be a list of some of .* got 'labels'"),
        ({'eos_coef': -0.1}, 'eos_coef is the weight of no-object, 0 or more, got -0.1; 0.1 is usual'),
        ({'loss_weights': {'loss_giou': 2}}, r"loss_weights knows \['loss_cls', .*\], got \['loss_giou'\]"),
        ({'losses': ['masks']}, "'masks' in losses and mask_loss belong together, .* mask_loss=None; give mask_loss="),
        ({'mask_loss': torch.nn.Identity()}, "'masks' in losses and mask_loss belong together"),
        ({'mask_layers': 'first'}, "mask_layers must be 'all' or 'last', got 'first'"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_wrong_shapes_raise():
    outputs, targets = scene()
    with pytest.raises(ValueError, match=r'expected logits \(L, B, Q, 6\): 5 classes and no-object'):
        build(num_classes=5)(outputs, targets)
    with pytest.raises(ValueError, match='expected a target for each of 3 images, got 2'):
        build()(outputs, targets[:2])
    with pytest.raises(ValueError, match=r"outputs lack 'boxes', got \['logits'\]"):
        build()({'logits': outputs['logits']}, targets)
    with pytest.raises(ValueError, match=r'expected one dict for each of 3 images in img_metas, got 1'):
        build()(outputs, targets, img_metas=[{}])


def test_wrong_label_names_the_image():
    outputs, targets = scene()
    targets[2]['labels'] = torch.tensor([4])
    with pytest.raises(ValueError, match=r'object 0 of image 2 of the batch has the label 4, but there are 4 classes'):
        build()(outputs, targets)
    metas = [{'img_path': f'{name}.jpg'} for name in 'abc']
    with pytest.raises(ValueError, match=r'object 0 of c.jpg has the label 4'):
        build()(outputs, targets, metas)


def test_wrong_box_names_the_image():
    outputs, targets = scene()
    targets[0]['boxes'][1, 2] = float('nan')
    with pytest.raises(ValueError, match=r'object 1 of image 0 of the batch has the box .*nan.*check the annotation'):
        build()(outputs, targets)


def test_diverged_network_names_the_image():
    outputs, targets = scene()
    logits = outputs['logits'].detach().clone()
    logits[1, 2] = float('nan')
    with pytest.raises(ValueError, match=r'layer 1, image 2 \(c.jpg\), by term ClassificationCost'):
        build()({**outputs, 'logits': logits}, targets, [{}, {}, {'img_path': 'c.jpg'}])


# values


@pytest.mark.parametrize('path', golden_files('detr_[0-9].npz'))
def test_golden(path):
    golden = load_golden(path)
    masks = 'mask_logits' in golden
    outputs = {key: golden[key].requires_grad_() for key in ('logits', 'boxes')}
    losses, settings = ['labels', 'boxes', 'cardinality'], {}
    if masks:
        outputs['masks'] = golden['mask_logits'].requires_grad_()
        losses.append('masks')
        settings = {'mask_loss': dict(type='mmplugins.DenseMaskLoss'), 'mask_layers': 'last'}
    criterion = build(num_classes=golden['num_classes'], eos_coef=golden['eos_coef'], losses=losses, **settings)
    targets, pairs = golden_targets(golden), golden_pairs(golden)
    matched = []
    solve = criterion.assigner.assign_batch
    criterion.assigner.assign_batch = lambda *args, **kwargs: matched.append(solve(*args, **kwargs)) or matched[-1]
    found = criterion(outputs, targets)

    for layer, expected_layer in zip(matched[0], pairs, strict=True):
        for (query, index), (expected_query, expected_index) in zip(layer, expected_layer, strict=True):
            assert torch.equal(query, expected_query)
            assert torch.equal(index, expected_index)
    last = len(golden['logits']) - 1
    names = {'loss_ce': ('loss_cls', 1), 'loss_bbox': ('loss_bbox', 5), 'loss_giou': ('loss_iou', 2)}
    for name, (ours, weight) in names.items():
        for layer in range(last + 1):
            expected = golden[f'out.{name}' if layer == last else f'out.{name}_{layer}']
            value = found[ours if layer == last else f'd{layer}.{ours}']
            assert_relative(value, weight * expected, 1e-5, f'{name} of layer {layer}')
    for name in ['class_error', 'cardinality_error', *(['loss_mask', 'loss_dice'] if masks else [])]:
        assert_relative(found[name], golden[f'out.{name}'], 1e-5, name)
    total(found).backward()
    assert_relative(total(found), golden['total'], 1e-5, 'total')
    for key, value in outputs.items():
        assert_relative(value.grad, golden[f'grad_{key}'], 1e-5, f'gradient of {key}')


def reference(outputs: dict, targets: list[dict], pairs: list, eos_coef: float, no_object: int) -> dict[str, Tensor]:
    """The losses of the paper, layer by layer, image by image, pair by pair."""
    logits, boxes = outputs['logits'], outputs['boxes']
    weight = torch.ones(no_object + 1, dtype=logits.dtype)
    weight[-1] = eos_coef
    count = max(sum(len(target['labels']) for target in targets), 1)
    losses = {}
    for layer, images in enumerate(pairs):
        prefix = '' if layer == len(pairs) - 1 else f'd{layer}.'
        label = torch.full(logits.shape[1:3], no_object)
        distance = overlap = 0 * boxes.sum()
        for image, (query, index) in enumerate(images):
            for q, g in zip(query.tolist(), index.tolist(), strict=True):
                label[image, q] = targets[image]['labels'][g]
                ours, theirs = boxes[layer, image, q], targets[image]['boxes'][g]
                distance = distance + (ours - theirs).abs().sum()
                overlap = overlap + 1 - aligned_overlap(cxcywh_to_xyxy(ours), cxcywh_to_xyxy(theirs))
        losses[f'{prefix}loss_cls'] = F.cross_entropy(logits[layer].flatten(0, 1), label.flatten(), weight)
        losses[f'{prefix}loss_bbox'] = 5 * distance / count
        losses[f'{prefix}loss_iou'] = 2 * overlap / count
    return losses


@pytest.mark.parametrize('counts', [(3, 0, 1), (9, 2), (0, 0), (1,)])
def test_equals_the_paper_pair_by_pair(counts):
    outputs, targets = scene(counts, layers=3)
    criterion = build(eos_coef=0.3)
    pairs = criterion.assigner.assign_batch  # the assigner has its own tests
    found = []
    criterion.assigner.assign_batch = lambda *args, **kwargs: found.append(pairs(*args, **kwargs)) or found[-1]
    losses = criterion(outputs, targets)
    expected = reference(outputs, targets, found[0], 0.3, 4)
    assert [len(query) for query, _ in found[0][0]] == [min(6, count) for count in counts]
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    gradients = torch.autograd.grad(total(losses), list(outputs.values()))
    expected = torch.autograd.grad(sum(expected.values()), list(outputs.values()))
    for gradient, value in zip(gradients, expected, strict=True):
        assert_relative(gradient, value, 1e-5, 'gradient')


def test_weights_scale_the_losses():
    outputs, targets = scene()
    weights = {'loss_cls': 3.0, 'loss_bbox': 10.0, 'loss_iou': 0.0}
    ones, scaled = build()(outputs, targets), build(loss_weights=weights)(outputs, targets)
    for prefix in ('', 'd0.'):
        torch.testing.assert_close(scaled[f'{prefix}loss_cls'], 3 * ones[f'{prefix}loss_cls'])
        torch.testing.assert_close(scaled[f'{prefix}loss_bbox'], 2 * ones[f'{prefix}loss_bbox'])
        assert scaled[f'{prefix}loss_iou'] == 0
    assert scaled['class_error'] == ones['class_error']
    partly = build(loss_weights={'loss_cls': 3.0})(outputs, targets)
    torch.testing.assert_close(partly['loss_bbox'], ones['loss_bbox'])


# identities


def test_stacked_layers_equal_one_by_one():
    outputs, targets = scene(layers=4)
    losses = build()(outputs, targets)
    for layer in range(4):
        alone = build()(one(outputs, layer), targets)
        prefix = '' if layer == 3 else f'd{layer}.'
        for name in ('loss_cls', 'loss_bbox', 'loss_iou'):
            torch.testing.assert_close(losses[prefix + name], alone[name])


def test_order_of_the_objects_does_not_matter():
    outputs, targets = scene()
    turned = [{key: value.flip(0) for key, value in target.items()} for target in targets]
    for name, value in build()(outputs, targets).items():
        torch.testing.assert_close(build()(outputs, turned)[name], value)


def test_perfect_predictions_cost_nothing():
    _, targets = scene((3, 2), queries=3)
    logits = torch.full((1, 2, 3, 5), -50.0)
    boxes = torch.rand(1, 2, 3, 4)
    for image, target in enumerate(targets):
        for query in range(3):
            known = query < len(target['labels'])
            logits[0, image, query, target['labels'][query] if known else 4] = 50
            if known:
                boxes[0, image, query] = target['boxes'][query]
    losses = build()({'logits': logits, 'boxes': boxes}, targets)
    for value in losses.values():
        assert abs(float(value)) < 1e-6


def test_inputs_are_left_alone():
    outputs, targets = scene()
    before = [value.clone() for value in [*outputs.values(), *(v for target in targets for v in target.values())]]
    metas = [{'img_shape': (480, 640)}, {}, {}]
    build()(outputs, targets, metas)
    after = [*outputs.values(), *(value for target in targets for value in target.values())]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert metas == [{'img_shape': (480, 640)}, {}, {}]


# robustness


@pytest.mark.parametrize('counts', [(0,), (0, 0, 0)])
def test_no_objects_is_finite_and_attached(counts):
    outputs, targets = scene(counts)
    losses = build()(outputs, targets)
    for name in ('loss_bbox', 'loss_iou', 'd0.loss_bbox', 'd0.loss_iou'):
        assert float(losses[name]) == 0
        assert losses[name].requires_grad
    assert float(losses['class_error']) == 100
    total(losses).backward()
    assert torch.equal(outputs['boxes'].grad, torch.zeros_like(outputs['boxes']))
    assert outputs['logits'].grad.isfinite().all()
    alone = torch.autograd.grad(build(losses=['boxes'])(outputs, targets)['loss_iou'], outputs['boxes'])[0]
    assert torch.count_nonzero(alone) == 0


def test_no_queries_is_finite():
    outputs, targets = scene(queries=0)
    losses = build()(outputs, targets)
    assert all(float(losses[name]) == 0 for name in losses if 'loss' in name)
    total(losses).backward()


def test_no_weight_is_finite():
    outputs, targets = scene((0, 0))
    assert float(build(eos_coef=0.0)(outputs, targets)['loss_cls']) == 0


@pytest.mark.parametrize('size', [(0.0, 0.0), (0.0, 0.2), (-0.1, 0.2), (-0.1, -0.3)])
def test_degenerate_predictions_do_not_abort(size):
    outputs, targets = scene()
    boxes = outputs['boxes'].detach().clone()
    boxes[..., 2:] = torch.tensor(size)
    targets[0]['boxes'][:, 2:] = 0  # a target may be a point
    boxes[0, 0, 0] = targets[0]['boxes'][0]
    losses = build()({**outputs, 'boxes': boxes.requires_grad_()}, targets)
    total(losses).backward()
    assert all(value.isfinite() for value in losses.values())
    assert boxes.grad.isfinite().all()


def test_assigner_without_batches():
    """An assigner that has mmdet's call only gives the same pairs, so the same losses."""

    class Single:
        def __init__(self) -> None:
            self.calls = []

        def assign(self, pred_instances, gt_instances, img_meta=None):
            self.calls.append((len(pred_instances), len(gt_instances), img_meta['img_shape'], img_meta['name']))
            indices = torch.zeros(len(pred_instances), dtype=torch.int64)
            layer = InstanceData(scores=pred_instances.scores[None], bboxes=pred_instances.bboxes[None])
            query, index = batch.assign_batch([layer], [gt_instances], [img_meta])[0][0]
            indices[query] = index + 1
            return type('AssignResult', (), {'gt_inds': indices})

    outputs, targets = scene()
    batch, single = build().assigner, Single()
    metas = [{'name': name, 'img_shape': (480, 640)} for name in 'abc']
    losses = build(assigner=single)(outputs, targets, metas)
    for name, value in build()(outputs, targets).items():
        torch.testing.assert_close(losses[name], value)
    assert single.calls == [
        (6, count, (1, 1), name) for _ in range(2) for count, name in [(3, 'a'), (0, 'b'), (1, 'c')]
    ]


def test_given_assigner_is_used_as_it_is():
    outputs, targets = scene((2,))
    pairs = [[(torch.tensor([1, 4]), torch.tensor([1, 0]))]] * 2
    assigner = GivenAssigner(pairs)
    criterion = build(assigner=assigner)
    assert criterion.assigner is assigner
    losses = criterion(outputs, targets)
    torch.testing.assert_close(losses['loss_bbox'], reference(outputs, targets, pairs, 0.1, 4)['loss_bbox'])


# gradcheck, dtype and autocast


def test_gradcheck():
    outputs, targets = scene((2, 1), queries=3, dtype=torch.float64)
    criterion = build()

    def value(logits, boxes):
        return total(criterion({'logits': logits, 'boxes': boxes}, targets))

    assert value(**outputs).dtype == torch.float64
    assert torch.autograd.gradcheck(value, (outputs['logits'], outputs['boxes']))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_predictions_are_computed_in_float32(dtype):
    outputs, targets = scene()
    half = {key: value.detach().to(dtype).requires_grad_() for key, value in outputs.items()}
    exact = {key: value.detach().float().requires_grad_() for key, value in half.items()}
    expected = build()(exact, targets)
    total(expected).backward()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = build()(half, targets)
        total(losses).backward()
    for name, value in losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
    for key, value in half.items():
        torch.testing.assert_close(value.grad, exact[key].grad.to(dtype), rtol=0, atol=0)


def test_state_dict_is_empty_and_settings_are_shown():
    criterion = build(loss_weights={'loss_cls': 2.0})
    assert criterion.state_dict() == {}
    assert "num_classes=4, losses=('labels', 'boxes', 'cardinality'), eos_coef=0.1" in repr(criterion)
    assert 'loss_cls=2.0' in repr(criterion)


# device


class HostReads(TorchDispatchMode):
    """Names the operators that a device would have to be waited for: those whose result the host looks at."""

    WAITING = {'_local_scalar_dense', 'nonzero', 'masked_select', '_unique2', 'unique_consecutive', 'equal'}

    def __init__(self) -> None:
        super().__init__()
        self.found, self.count = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        name = func.name().removeprefix('aten::').partition('.')[0]
        if name in self.WAITING:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('counts', [(3, 0, 1), (0, 0, 0)])
def test_nothing_but_the_matching_and_the_deferred_checks_is_read_by_the_host(counts, monkeypatch):
    """Shown on the CPU: with both taken out, no operator's result is looked at, forward or backward."""
    outputs, targets = scene(counts)
    criterion = build()
    pairs = []
    solve = criterion.assigner.assign_batch
    criterion.assigner.assign_batch = lambda *args, **kwargs: pairs.append(solve(*args, **kwargs)) or pairs[-1]
    criterion(outputs, targets)
    criterion.assigner.assign_batch = lambda *args, **kwargs: pairs[0]
    monkeypatch.setattr(DeferredReads, 'push', lambda *args: None)
    with HostReads() as reads:
        total(criterion(outputs, targets)).backward()
    assert reads.found == []
    assert reads.count > 50
    with HostReads() as reads:
        outputs['logits'].detach().sum().item()
    assert reads.found == ['_local_scalar_dense']


def test_number_of_operators_does_not_grow_with_layers_and_images():
    """Beside the views of single layers and images, and the costs, which the assigner computes image by image."""

    def operators(counts: tuple[int, ...], layers: int) -> int:
        outputs, targets = scene(counts, layers)
        pairs = [[(torch.arange(min(6, count)), torch.arange(min(6, count))) for count in counts]] * layers
        with HostReads() as reads:
            build(assigner=GivenAssigner(pairs), losses=['labels', 'boxes'])(outputs, targets)
        return reads.count

    few, many = operators((2, 1), 1), operators((2, 1, 3, 2, 1, 4), 8)
    assert many - few < 8 * 8 + 4 * 6


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_equals_cpu_and_waits_once():
    """Only the copy of the costs to the host waits; what is wrong with a batch is still raised for that batch."""
    outputs, targets = scene(layers=6)
    expected = build()(outputs, targets)
    gradients = torch.autograd.grad(total(expected), list(outputs.values()))
    criterion = build().cuda()
    on_device = {key: value.detach().cuda().requires_grad_() for key, value in outputs.items()}
    moved = [{key: value.cuda() for key, value in target.items()} for target in targets]
    criterion(on_device, moved)  # the first call may set something up
    solve = criterion.assigner.assign_batch

    def assign_batch(*args, **kwargs):
        torch.cuda.set_sync_debug_mode('default')
        try:
            return solve(*args, **kwargs)
        finally:
            torch.cuda.set_sync_debug_mode('error')

    criterion.assigner.assign_batch = assign_batch
    torch.cuda.set_sync_debug_mode('error')  # a wait elsewhere raises
    try:
        losses = criterion(on_device, moved)
        found = torch.autograd.grad(total(losses), list(on_device.values()))
    finally:
        torch.cuda.set_sync_debug_mode('default')
    for name, value in losses.items():
        torch.testing.assert_close(value.cpu(), expected[name])
    for gradient, value in zip(found, gradients, strict=True):
        torch.testing.assert_close(gradient.cpu(), value)
    criterion.assigner.assign_batch = solve
    moved[0]['labels'] = moved[0]['labels'] + 9
    with pytest.raises(ValueError, match='has the label'):
        criterion(on_device, moved)
