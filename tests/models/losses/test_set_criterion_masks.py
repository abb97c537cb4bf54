"""SetCriterion with masks: DETR's last layer, MaskFormer and Mask2Former."""

import pytest
import torch

from mmplugins.functional.device import plain_path
from mmplugins.models.losses import SetCriterion
from mmplugins.testing import assert_relative, load_golden
from tests.locations import golden_files
from tests.models.losses.set_scenes import BOX_COSTS, golden_pairs, golden_targets, hungarian, scene, total

POINTS = dict(type='mmplugins.PointSampledMaskLoss', num_points=64)


def mask_costs(classification: float, mask: dict, dice: float) -> dict:
    return hungarian(
        dict(type='mmplugins.ClassificationCost', weight=classification),
        mask,
        dict(type='mmplugins.DiceCost', pred_act=True, eps=1.0, weight=dice),
    )


def bce(weight: float) -> dict:
    return dict(type='mmplugins.CrossEntropyLossCost', use_sigmoid=True, weight=weight)


def build(mask_loss: dict = POINTS, **settings) -> SetCriterion:
    """Mask2Former's criterion on few points."""
    settings = {
        'num_classes': 4,
        'assigner': mask_costs(2.0, bce(5.0), 5.0),
        'losses': ('labels', 'masks'),
        'loss_weights': dict(loss_cls=2.0, loss_mask=5.0, loss_dice=5.0),
        **settings,
    }
    return SetCriterion(mask_loss=mask_loss, **settings)


def masked_scene(counts=(3, 0, 1), layers=2, dtype=torch.float32, size=(32, 40), **settings):
    """The scene of the boxes, with the boxes' pixels as masks and random mask logits of half the size."""
    outputs, targets = scene(counts, layers, dtype=dtype, **settings)
    rows, columns = (torch.arange(length) / length for length in size)
    for target in targets:
        x, y, w, h = (part[:, None, None] for part in target.pop('boxes').unbind(1))
        target['masks'] = ((rows[:, None] - y).abs() < h / 2) & ((columns - x).abs() < w / 2)
    shape = (*outputs.pop('boxes').shape[:3], size[0] // 2, size[1] // 2)
    masks = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    outputs['masks'] = masks.to(dtype).requires_grad_()
    return outputs, targets


def points(counts, layers=2, number=50, queries=6) -> dict:
    """Fixed points for the matching and the loss."""
    generator = torch.Generator().manual_seed(2)
    pairs = sum(min(count, queries) for count in counts)
    return {
        'match_coords': torch.rand(layers, len(counts), number, 2, generator=generator),
        'loss_coords': list(torch.rand(layers, pairs, number, 2, generator=generator)),
    }


def check_golden(golden, criterion, names, **coords) -> None:
    """Pairs, losses, their sum and gradients of a golden case."""
    outputs = {
        'logits': golden['logits'].requires_grad_(),
        'masks': golden['mask_logits'].requires_grad_(),
    }
    found = []
    solve = criterion.assigner.assign_batch
    criterion.assigner.assign_batch = lambda *args, **kwargs: found.append(solve(*args, **kwargs)) or found[-1]
    losses = criterion(outputs, golden_targets(golden), **coords)
    for layer, expected_layer in zip(found[0], golden_pairs(golden), strict=True):
        for (query, index), (expected_query, expected_index) in zip(layer, expected_layer, strict=True):
            assert torch.equal(query, expected_query)
            assert torch.equal(index, expected_index)
    last = len(golden['logits']) - 1
    for name, (ours, weight) in names.items():
        for layer in range(last + 1):
            expected = golden[f'out.{name}' if layer == last else f'out.{name}_{layer}']
            value = losses[ours if layer == last else f'd{layer}.{ours}']
            assert_relative(value, weight * expected, 1e-5, f'{name} of layer {layer}')
    total(losses).backward()
    assert_relative(total(losses), golden['total'], 1e-5, 'total')
    assert_relative(outputs['logits'].grad, golden['grad_logits'], 1e-5, 'gradient of the logits')
    assert_relative(outputs['masks'].grad, golden['grad_masks'], 1e-5, 'gradient of the masks')


# values


@pytest.mark.parametrize('path', golden_files('mask2former_[0-9].npz'))
def test_golden_mask2former(path):
    golden = load_golden(path)
    layers, images = golden['logits'].shape[:2]
    criterion = build(
        dict(type='mmplugins.PointSampledMaskLoss', num_points=golden['num_points']),
        num_classes=golden['num_classes'],
        eos_coef=golden['eos_coef'],
    )
    check_golden(
        golden,
        criterion,
        {'loss_ce': ('loss_cls', 2), 'loss_mask': ('loss_mask', 5), 'loss_dice': ('loss_dice', 5)},
        match_coords=torch.stack(
            [torch.stack([golden[f'match_coords_{i}_{b}'] for b in range(images)]) for i in range(layers)]
        ),
        loss_coords=[golden[f'loss_coords_{i}'] for i in range(layers)],
    )


@pytest.mark.parametrize('path', golden_files('maskformer_[0-9].npz'))
def test_golden_maskformer(path):
    golden = load_golden(path)
    focal = dict(type='mmplugins.FocalLossCost', binary_input=True, weight=float(golden['cost_mask']))
    criterion = build(
        dict(type='mmplugins.DenseMaskLoss'),
        num_classes=golden['num_classes'],
        eos_coef=golden['eos_coef'],
        assigner=mask_costs(golden['cost_class'], focal, golden['cost_dice']),
        loss_weights=dict(loss_cls=1.0, loss_mask=20.0, loss_dice=1.0),
    )
    names = {'loss_ce': ('loss_cls', 1), 'loss_mask': ('loss_mask', 20), 'loss_dice': ('loss_dice', 1)}
    check_golden(golden, criterion, names)


# smoke


def test_smoke():
    outputs, targets = masked_scene()
    losses = build()(outputs, targets)
    total(losses).backward()
    names = ['loss_cls', 'loss_mask', 'loss_dice']
    assert list(losses) == [*names, *(f'd0.{name}' for name in names), 'class_error']
    assert all(value.grad.isfinite().all() and value.grad.abs().sum() > 0 for value in outputs.values())
    assert torch.count_nonzero(outputs['masks'].grad[:, 1]) == 0  # the image without objects


def test_drawn_points_follow_the_seed():
    outputs, targets = masked_scene()
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append(float(build()(outputs, targets)['loss_mask'].detach()))
    assert values[0] == values[1] != values[2]


# errors


def test_wrong_masks_raise():
    outputs, targets = masked_scene()
    with pytest.raises(
        ValueError, match=r"mask_layers='all' needs the masks of 2 layers, got those of 1; give all, or"
    ):
        build()({**outputs, 'masks': outputs['masks'][-1]}, targets)
    with pytest.raises(ValueError, match=r'expected masks \(L, B, Q, h, w\), .* got 2 layers of \[\(3, 5, 16, 20\)\]'):
        build()({**outputs, 'masks': outputs['masks'][:, :, :5]}, targets)
    with pytest.raises(ValueError, match=r"the target of image 0 of the batch lacks 'masks', got \['labels'\]"):
        build()(outputs, [{'labels': target['labels']} for target in targets])
    targets[0]['masks'] = targets[0]['masks'][:2]
    with pytest.raises(ValueError, match=r'expected masks \(G, H, W\) with G=3 as the labels of image 0'):
        build()(outputs, targets)


# identities


def test_a_list_of_layers_equals_one_tensor():
    outputs, targets = masked_scene(layers=3)
    coords = points((3, 0, 1), layers=3)
    expected = build()(outputs, targets, **coords)
    found = build()({**outputs, 'masks': list(outputs['masks'])}, targets, **coords)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_stacked_layers_equal_one_by_one():
    outputs, targets = masked_scene(layers=3)
    coords = points((3, 0, 1), layers=3)
    losses = build()(outputs, targets, **coords)
    for layer in range(3):
        one = slice(layer, layer + 1)
        alone = build()(
            {key: value[one] for key, value in outputs.items()},
            targets,
            match_coords=coords['match_coords'][one],
            loss_coords=coords['loss_coords'][one],
        )
        for name in ('loss_cls', 'loss_mask', 'loss_dice'):
            torch.testing.assert_close(losses[name if layer == 2 else f'd{layer}.{name}'], alone[name])


def test_the_mask_logits_of_all_layers_reach_the_loss_as_they_are():
    """A slice of a tensor would have a gradient of its own, as large as the tensor."""
    outputs, targets = masked_scene()
    criterion, seen = build(), []
    compute = criterion.mask_loss.layer_losses
    criterion.mask_loss.layer_losses = lambda masks, *args: seen.append(masks) or compute(masks, *args)
    criterion(outputs, targets)
    assert seen[0].logits is outputs['masks']


@pytest.mark.parametrize('layers', [1, 3])
@pytest.mark.parametrize('stacked', [True, False], ids=['all layers given', 'the last given'])
def test_masks_of_the_last_layer_only(layers, stacked):
    """DETR's segmentation: the boxes decide the pairs, and the masks' losses are those of the last layer alone."""
    with_boxes, box_targets = scene(layers=layers)
    outputs, targets = masked_scene(layers=layers)
    for target, boxed in zip(targets, box_targets, strict=True):
        target['boxes'] = boxed['boxes']
    masks = outputs['masks'] if stacked else outputs['masks'][-1]
    settings = {'assigner': hungarian(*BOX_COSTS), 'losses': ('labels', 'boxes', 'masks')}
    dense = dict(type='mmplugins.DenseMaskLoss')
    losses = build(dense, mask_layers='last', **settings)({**with_boxes, 'masks': masks}, targets)
    assert [name for name in losses if 'mask' in name] == ['loss_mask']
    alone = build(dense, **settings)(
        {key: value[-1:] for key, value in {**with_boxes, 'masks': outputs['masks']}.items()}, targets
    )
    for name in ('loss_mask', 'loss_dice', 'loss_bbox'):
        torch.testing.assert_close(losses[name], alone[name])
    assert ('d0.loss_bbox' in losses) == (layers > 1)


# robustness


@pytest.mark.parametrize('mask_loss', [POINTS, dict(type='mmplugins.DenseMaskLoss')], ids=['points', 'dense'])
@pytest.mark.parametrize('counts', [(0,), (0, 0, 0)])
def test_no_objects_is_finite_and_attached(counts, mask_loss):
    outputs, targets = masked_scene(counts)
    losses = build(mask_loss)(outputs, targets)
    for prefix in ('', 'd0.'):
        for name in ('loss_mask', 'loss_dice'):
            assert losses[prefix + name] == 0
            assert losses[prefix + name].requires_grad
    total(losses).backward()
    assert torch.equal(outputs['masks'].grad, torch.zeros_like(outputs['masks']))


def test_more_objects_than_queries():
    outputs, targets = masked_scene((9, 2))
    losses = build()(outputs, targets)
    total(losses).backward()
    assert all(value.isfinite() for value in losses.values())


@pytest.mark.parametrize('mask_loss', [POINTS, dict(type='mmplugins.DenseMaskLoss')], ids=['points', 'dense'])
def test_ignored_pixels_change_nothing(mask_loss):
    """Neither predictions nor masks in the ignored right half change the pairs or the losses."""
    values = []
    for junk in (0.0, 37.0):
        outputs, targets = masked_scene()
        masks = outputs['masks'].detach().clone()
        masks[..., 10:] += junk * torch.randn(masks[..., 10:].shape, generator=torch.Generator().manual_seed(3))
        for target in targets:
            target['valid'] = torch.ones(32, 40, dtype=torch.bool)
            target['valid'][:, 20:] = False
            if junk:
                target['masks'] = target['masks'].clone()
                target['masks'][..., 20:] ^= True
        del targets[1]['valid']  # an image may have none
        torch.manual_seed(0)
        masks.requires_grad_()
        losses = build(mask_loss)({**outputs, 'masks': masks}, targets)
        (gradient,) = torch.autograd.grad(total(losses), masks)
        assert torch.count_nonzero(gradient[..., 10:]) == 0
        values.append(torch.stack(list(losses.values())).detach())
    torch.testing.assert_close(*values)


# memory


@pytest.mark.usefixtures('each_path')
@pytest.mark.parametrize('mask_loss', [POINTS, dict(type='mmplugins.DenseMaskLoss')], ids=['points', 'dense'])
@pytest.mark.parametrize('ignore', [False, True])
def test_masks_made_block_by_block_are_matched_as_all_at_once(mask_loss, ignore, monkeypatch):
    """An assigner that knows nothing of sample_masks gets all of them, with the same pairs."""
    outputs, targets = masked_scene((3, 2))
    if ignore:
        targets[0]['valid'] = torch.rand(32, 40, generator=torch.Generator().manual_seed(3)) < 0.8
    found = []
    for blocks in (True, False):
        criterion = build(mask_loss)
        solve = criterion.assigner.assign_batch
        monkeypatch.setattr(type(criterion.assigner), 'samples_masks', blocks)
        calls = []
        criterion.assigner.assign_batch = lambda *args, _calls=calls, _solve=solve, **kwargs: (
            _calls.append(kwargs) or _solve(*args, **kwargs)
        )
        torch.manual_seed(0)
        found.append(criterion(outputs, targets))
        assert ('sample_masks' in calls[0]) == blocks
        assert ('valid' in calls[0]) == (ignore and not blocks)
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name])


def test_no_more_is_sampled_at_a_time_than_a_layer_of_an_image():
    outputs, targets = masked_scene((3, 2))
    criterion, parts = build(), []
    solve = criterion.assigner.assign_batch

    def assign_batch(*args, sample_masks, **kwargs):
        def recorded(image: int, layers: slice):
            compared = sample_masks(image, layers)
            parts.append((image, compared['pred'].shape[0], compared['gt'].shape[:2]))
            return compared

        return solve(*args, sample_masks=recorded, **kwargs)

    criterion.assigner.assign_batch = assign_batch
    criterion(outputs, targets)
    assert parts == [(0, 1, (1, 3))] * 2 + [(1, 1, (1, 2))] * 2
    parts.clear()
    with plain_path():
        criterion(outputs, targets)
    assert parts == [(0, 2, (2, 3)), (1, 2, (2, 2))]


# gradcheck, dtype and autocast


def test_gradcheck():
    outputs, targets = masked_scene((2, 1), dtype=torch.float64, queries=3, size=(8, 8))
    coords = points((2, 1), queries=3, number=20)
    coords['match_coords'] = coords['match_coords'].double()
    coords['loss_coords'] = [value.double() for value in coords['loss_coords']]
    criterion = build()

    def value(logits, masks):
        return total(criterion({'logits': logits, 'masks': masks}, targets, **coords))

    assert torch.autograd.gradcheck(value, (outputs['logits'], outputs['masks']))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_predictions_are_computed_in_float32(dtype):
    outputs, targets = masked_scene()
    coords = points((3, 0, 1))
    half = {key: value.detach().to(dtype).requires_grad_() for key, value in outputs.items()}
    exact = {key: value.detach().float().requires_grad_() for key, value in half.items()}
    expected = build()(exact, targets, **coords)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = build()(half, targets, **coords)
        total(losses).backward()
    for name, value in losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
    assert all(value.grad.dtype == dtype for value in half.values())


# device


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_equals_cpu():
    outputs, targets = masked_scene()
    coords = points((3, 0, 1))
    expected = build()(outputs, targets, **coords)
    moved = [{key: value.cuda() for key, value in target.items()} for target in targets]
    losses = build().cuda()(
        {key: value.detach().cuda() for key, value in outputs.items()},
        moved,
        match_coords=coords['match_coords'].cuda(),
        loss_coords=[value.cuda() for value in coords['loss_coords']],
    )
    for name, value in losses.items():
        torch.testing.assert_close(value.cpu(), expected[name])
