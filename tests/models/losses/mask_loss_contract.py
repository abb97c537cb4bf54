"""What the losses between mask logits and masks must pass; both take the same call."""

import copy

import pytest
import torch

from mmplugins.functional.sets.pairs import pack_pairs
from mmplugins.registry import MODELS
from mmplugins.testing import assert_relative, load_golden


def layer_losses(loss, logits, masks, matches, avg_factor, point_coords=None, valid=None, **options):
    """Losses of pairs given as [layer][image] -> (query, object)."""
    inputs = loss.inputs(logits, masks, valid)
    pairs = pack_pairs(matches, inputs.layers[0].shape[1], [len(one) for one in masks], inputs.device)
    return loss.layer_losses(inputs, pairs, avg_factor, point_coords, **options)


def match_inputs(loss, logits, masks, match_coords=None, valid=None, **options):
    """What a loss's matching compares."""
    return loss.match_inputs(loss.inputs(logits, masks, valid), match_coords, **options)


@pytest.mark.usefixtures('each_path')
class MaskLossContract:
    """Tests that every mask loss must pass.

    Attributes:
        loss_type: Registered name, without the scope.
        settings: Constructor arguments.
        on_points: Whether it takes ``point_coords``.
    """

    loss_type: str
    settings: dict = {}
    on_points = False

    def build(self, **settings):
        return MODELS.build({'type': f'mmplugins.{self.loss_type}', **self.settings, **settings})

    def example(self, dtype=torch.float32, number=3):
        """Logits (M, h, w) and masks (M, H, W), one of them without foreground; deterministic."""
        generator = torch.Generator().manual_seed(0)
        logits = 2 * torch.randn(number, 10, 13, generator=generator, dtype=torch.float64)
        masks = torch.zeros(number, 40, 52, dtype=torch.bool)
        masks[:2, 10:25, 4:30] = True
        masks[1:2, :, 26:] = True
        return logits.to(dtype), masks

    def call(self, number=3, dtype=torch.float32):
        """What makes a call deterministic."""
        if not self.on_points:
            return {}
        generator = torch.Generator().manual_seed(1)
        return {'point_coords': torch.rand(number, 50, 2, generator=generator, dtype=torch.float64).to(dtype)}

    def layers(self, num_layers=3, images=2, queries=6):
        """Logits (L, B, Q, h, w), masks, matches and points for ``layer_losses``; the last image may be empty."""
        generator = torch.Generator().manual_seed(2)
        logits = 2 * torch.randn(num_layers, images, queries, 10, 13, generator=generator)
        masks = [torch.rand(count, 40, 52, generator=generator) < 0.4 for count in (4, 2, 0, 3)[:images]]
        matches = [
            [
                (torch.randperm(queries, generator=generator)[: len(mask)].sort()[0], torch.arange(len(mask)).flip(0))
                for mask in masks
            ]
            for _ in range(num_layers)
        ]
        coords = [torch.rand(sum(map(len, masks)), 50, 2, generator=generator) for _ in range(num_layers)]
        return logits, masks, matches, 5.0, *([coords] if self.on_points else [])

    def test_smoke(self):
        logits, masks = self.example()
        losses = self.build()(logits.requires_grad_(), masks)
        assert list(losses) == ['loss_mask', 'loss_dice']
        for value in losses.values():
            assert value.shape == ()
            assert value.dtype == torch.float32
            (grad,) = torch.autograd.grad(value, logits, retain_graph=True)
            assert torch.isfinite(grad).all()
            assert grad.abs().sum() > 0

    def test_shapes_are_checked(self):
        logits, masks = self.example()
        loss = self.build()
        with pytest.raises(ValueError, match=r'expected mask logits \(M, h, w\) and as many masks \(M, H, W\), got'):
            loss(logits, masks[:2])
        with pytest.raises(TypeError, match='mask_logits must be floating-point logits'):
            loss(logits.long(), masks)
        with pytest.raises(ValueError, match=r'expected valid of image 0 as \(H, W\) like its masks, \(40, 52\), got'):
            loss(logits, masks, valid=torch.ones(10, 13, dtype=torch.bool))
        layers, masks, matches, *rest = self.layers()
        with pytest.raises(ValueError, match=r'expected the masks of 2 images, a tensor .* each, got 1'):
            layer_losses(loss, layers, masks[:1], matches, *rest)
        with pytest.raises(ValueError, match='expected pairs of 3 layers with 2 images each'):
            layer_losses(loss, layers, masks, matches[:2], *rest)
        with pytest.raises(ValueError, match=r'expected mask logits \(L, B, Q, h, w\), or a list of L tensors'):
            layer_losses(loss, layers[0], masks, matches, *rest)
        with pytest.raises(ValueError, match='expected valid of 2 images'):
            layer_losses(loss, layers, masks, matches, *rest, valid=[None])
        with pytest.raises(TypeError, match=r'masks of image 0 as a tensor .* got list; convert BitmapMasks with'):
            layer_losses(loss, layers, [[], []], matches, *rest)

    def test_masks_of_two_sizes_raise(self):
        layers, masks, matches, *rest = self.layers()
        masks[1] = masks[1][:, :38]
        expected = r'the masks of image 1 are \(38, 52\), .* \(40, 52\) \(height, width\); pad them with zeros'
        with pytest.raises(ValueError, match=expected):
            layer_losses(self.build(), layers, masks, matches, *rest)
        with pytest.raises(ValueError, match=expected):
            match_inputs(self.build(), layers, masks)

    @pytest.mark.parametrize('values', [(0, 255), (0, 2), (-1, 1)])
    def test_other_values_raise(self, values):
        logits, masks = self.example()
        kind = torch.int64 if min(values) < 0 else torch.uint8
        wrong = torch.where(masks, values[1], values[0]).to(kind)
        message = f'got {values[0]} to {values[1]}; threshold 8-bit masks'
        with pytest.raises(ValueError, match=message):
            self.build()(logits, wrong)
        with pytest.raises(ValueError, match='or floats between, got nan'):
            self.build()(logits, torch.where(masks, float('nan'), 0.0))

    @pytest.mark.parametrize('dtype', [torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64])
    def test_masks_of_every_dtype_are_the_same(self, dtype):
        logits, masks = self.example()
        call = self.call()
        expected = self.build()(logits, masks, **call)
        for name, value in self.build()(logits, masks.to(dtype), **call).items():
            torch.testing.assert_close(value, expected[name])

    def test_soft_masks_lie_between(self):
        logits, masks = self.example(number=1)
        logits = torch.where(masks[:, ::4, ::4], 3.0, -3.0)
        values = []
        for share in (0, 0.3, 1):
            soft = (1 - share) * masks.float() + share * (~masks).float()
            values.append([float(value) for value in self.build()(logits, soft, **self.call(1)).values()])
        assert values == sorted(values)
        assert values[0][1] < values[1][1] < values[2][1]

    def test_losses_add_up_over_pairs(self):
        logits, masks = self.example()
        call = self.call()
        together = self.build()(logits, masks, avg_factor=2.5, **call)
        for name, value in together.items():
            alone = [
                self.build()(logits[i : i + 1], masks[i : i + 1], **{k: v[i : i + 1] for k, v in call.items()})[name]
                for i in range(3)
            ]
            torch.testing.assert_close(value, sum(alone) / 2.5)

    def test_avg_factor_is_the_number_of_pairs(self):
        logits, masks = self.example()
        call = self.call()
        for factor in (3, 3.0, torch.tensor(3.0)):
            values = self.build()(logits, masks, factor, **call)
            assert values == self.build()(logits, masks, **call)
        assert all(torch.isfinite(value) for value in self.build()(logits, masks, 0, **call).values())

    def test_without_pairs_it_is_zero_and_attached(self):
        logits = torch.full((0, 10, 13), 2.0, requires_grad=True)
        losses = self.build()(logits, torch.zeros(0, 40, 52, dtype=torch.bool))
        sum(losses.values()).backward()
        assert [value.item() for value in losses.values()] == [0, 0]
        assert logits.grad.shape == (0, 10, 13)

    def test_a_layer_without_pairs_is_zero_and_attached(self):
        logits, masks, matches, *rest = self.layers()
        none = (torch.zeros(0, dtype=torch.int64),) * 2
        matches[1] = [none, none]
        if self.on_points:
            rest[1][1] = torch.zeros(0, 50, 2)
        for kind in (logits, list(logits)):
            leaves = [leaf.requires_grad_() for leaf in ([kind] if kind is logits else kind)]
            losses = layer_losses(self.build(), kind, masks, matches, *rest)
            grads = torch.autograd.grad(sum(value[1] for value in losses.values()), leaves, allow_unused=True)
            assert losses['loss_mask'].shape == (3,)
            assert losses['loss_mask'][1] == losses['loss_dice'][1] == 0
            assert (grads[0] if kind is logits else grads[1]).abs().sum() == 0

    def test_images_without_masks_and_queries_to_spare(self):
        logits, masks, matches, *rest = self.layers(images=4)
        losses = layer_losses(self.build(), logits.requires_grad_(), masks, matches, *rest)
        (grad,) = torch.autograd.grad(sum(value.sum() for value in losses.values()), logits)
        for layer in range(3):
            for image, (query, _) in enumerate(matches[layer]):
                touched = grad[layer, image].abs().sum((1, 2)).nonzero().flatten()
                assert touched.tolist() == query.tolist()
        masks[2] = torch.zeros(0, 1, 1, dtype=torch.bool)  # the size of no masks does not matter
        again = layer_losses(self.build(), logits, masks, matches, *rest)
        assert torch.equal(again['loss_dice'], losses['loss_dice'])

    def test_a_batch_without_masks(self):
        logits = torch.randn(2, 2, 4, 10, 13, requires_grad=True)
        none = (torch.zeros(0, dtype=torch.int64),) * 2
        masks = [torch.zeros(0, 40, 52, dtype=torch.bool)] * 2
        losses = layer_losses(self.build(), logits, masks, [[none, none]] * 2, 1.0)
        sum(value.sum() for value in losses.values()).backward()
        assert torch.count_nonzero(logits.grad) == 0
        assert [entry['gt'].numel() for entry in match_inputs(self.build(), logits, masks)] == [0, 0]

    def test_objects_smaller_than_a_pixel_of_the_logits(self):
        logits, masks = self.example()
        masks[:] = False
        masks[0, 17, 23] = True
        losses = self.build()(logits.requires_grad_(), masks)
        sum(losses.values()).backward()
        assert torch.isfinite(logits.grad).all()

    def test_layers_equal_one_by_one(self):
        logits, masks, matches, factor, *coords = self.layers()
        together = layer_losses(self.build(), logits.requires_grad_(), masks, matches, factor, *coords)
        total = 0
        for layer, pairs in enumerate(matches):
            maps = torch.cat([logits[layer, image, query] for image, (query, _) in enumerate(pairs)])
            truth = torch.cat([masks[image][index] for image, (_, index) in enumerate(pairs)])
            call = {'point_coords': coords[0][layer]} if self.on_points else {}
            for name, value in self.build()(maps, truth, factor, **call).items():
                torch.testing.assert_close(together[name][layer], value)
                total = total + value
        (grad,) = torch.autograd.grad(sum(value.sum() for value in together.values()), logits)
        torch.testing.assert_close(grad, torch.autograd.grad(total, logits)[0])

    def test_a_list_of_layers_equals_a_tensor(self):
        logits, masks, matches, *rest = self.layers()
        expected = layer_losses(self.build(), logits.requires_grad_(), masks, matches, *rest)
        parts = [layer.detach().requires_grad_() for layer in logits]
        losses = layer_losses(self.build(), parts, masks, matches, *rest)
        for name, value in losses.items():
            assert torch.equal(value, expected[name])
            grad = torch.stack(torch.autograd.grad(value.sum(), parts, retain_graph=True))
            torch.testing.assert_close(grad, torch.autograd.grad(expected[name].sum(), logits, retain_graph=True)[0])

    def test_views_of_the_logits_will_do(self):
        logits, masks, matches, *rest = self.layers()
        turned = logits.permute(3, 4, 1, 2, 0).contiguous().permute(4, 2, 3, 0, 1)
        expected = layer_losses(self.build(), logits, masks, matches, *rest)
        losses = layer_losses(self.build(), turned.requires_grad_(), masks, matches, *rest)
        torch.testing.assert_close(losses['loss_dice'], expected['loss_dice'])
        sum(value.sum() for value in losses.values()).backward()
        assert turned.grad.shape == logits.shape

    def test_gradcheck(self):
        logits, masks = self.example(torch.float64, 2)
        logits = logits[:, :5, :6]
        call = self.call(2, torch.float64)
        loss = self.build()
        assert torch.autograd.gradcheck(lambda x: tuple(loss(x, masks, **call).values()), logits.requires_grad_())

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_logits_are_computed_in_float32(self, dtype):
        logits, masks = self.example(dtype)
        call = self.call()
        expected = self.build()(exact := logits.float().requires_grad_(), masks, **call)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            losses = self.build()(logits.requires_grad_(), masks, **call)
            sum(losses.values()).backward()
        assert all(value.dtype == torch.float32 for value in losses.values())
        assert losses == expected
        (grad,) = torch.autograd.grad(sum(expected.values()), exact)
        torch.testing.assert_close(logits.grad, grad.to(dtype))

    def test_float64(self):
        logits, masks = self.example(torch.float64)
        losses = self.build()(logits, masks, **self.call(dtype=torch.float64))
        assert all(value.dtype == torch.float64 for value in losses.values())

    def test_input_is_left_alone(self):
        logits, masks, matches, *rest = self.layers()
        before = logits.clone(), [mask.clone() for mask in masks]
        valid = [torch.rand(40, 52) < 0.5] * 2
        for pixels in (None, valid):
            layer_losses(self.build(), logits, masks, matches, *rest, valid=pixels)
            match_inputs(self.build(), logits, masks, valid=pixels)
        assert torch.equal(logits, before[0])
        assert all(torch.equal(mask, old) for mask, old in zip(masks, before[1], strict=True))

    def test_a_copy_works(self):
        loss = copy.deepcopy(self.build())
        logits, masks = self.example()
        assert loss(logits, masks, **self.call()) == self.build()(logits, masks, **self.call())

    # What takes no part

    def regions(self):
        """Pixels that take part, and the logits that cover only others."""
        valid = torch.ones(40, 52, dtype=torch.bool)
        valid[:, 24:36] = False  # columns 6 to 8 of the logits
        valid[13, :] = False  # a line too thin to cover a logit
        cells = torch.zeros(10, 13, dtype=torch.bool)
        cells[:, 6:9] = True
        return valid, cells

    @pytest.mark.parametrize('value', [1e3, -7.0, float('inf'), float('nan')])
    def test_predictions_in_ignored_regions_change_nothing(self, value):
        logits, masks, matches, *rest = self.layers()
        valid, cells = self.regions()
        changed = logits.masked_fill(cells, value)
        results = []
        for maps in (logits, changed):
            maps.requires_grad_()
            losses = layer_losses(self.build(), maps, masks, matches, *rest, valid=[valid, None])
            results.append(
                (losses, torch.autograd.grad(losses['loss_dice'].sum() + losses['loss_mask'].sum(), maps)[0])
            )
        (losses, grad), _ = results
        assert torch.count_nonzero(grad[:, 0, :, :, 6:9]) == 0
        assert torch.count_nonzero(grad[:, 0]) > 0
        only_first = logits.detach().clone()
        only_first[:, 0] = changed.detach()[:, 0]
        maps = only_first.requires_grad_()
        again = layer_losses(self.build(), maps, masks, matches, *rest, valid=[valid, None])
        for name in losses:
            assert torch.equal(again[name], losses[name])
        assert torch.equal(torch.autograd.grad(sum(v.sum() for v in again.values()), maps)[0], grad)

    def test_masks_in_ignored_regions_change_nothing(self):
        logits, masks, matches, *rest = self.layers()
        valid, _ = self.regions()
        expected = layer_losses(self.build(), logits, masks, matches, *rest, valid=[valid, valid])
        masks = [mask | ~valid for mask in masks]
        losses = layer_losses(self.build(), logits, masks, matches, *rest, valid=[valid, valid])
        for name in losses:
            assert torch.equal(losses[name], expected[name])

    def test_ignored_regions_change_nothing_in_the_matching(self):
        logits, masks, *_ = self.layers()
        valid, cells = self.regions()
        changed, other = logits.masked_fill(cells, float('nan')), [mask | ~valid for mask in masks]
        coords = torch.rand(3, 2, 60, 2) if self.on_points else None
        found = match_inputs(self.build(), logits, masks, coords, [valid, valid])
        again = match_inputs(self.build(), list(changed), other, coords, [valid, valid])
        for one, two in zip(found, again, strict=True):
            part = one['valid']
            assert part.any()
            assert not part.all()
            assert torch.equal(part, two['valid'])
            assert torch.isfinite(two['pred']).all()
            counted = part[:, None]  # (L, 1, P)
            assert torch.equal(one['pred'] * counted, two['pred'] * counted)
            assert torch.equal(one['gt'] * counted, two['gt'] * counted)

    def test_all_pixels_valid_is_no_difference(self):
        logits, masks = self.example()
        every = torch.ones(40, 52, dtype=torch.bool)
        call = self.call()
        assert self.build()(logits, masks, valid=every, **call) == self.build()(logits, masks, **call)

    def test_no_pixel_valid_is_zero_and_attached(self):
        logits, masks = self.example()
        losses = self.build()(logits.requires_grad_(), masks, valid=torch.zeros(40, 52, dtype=torch.bool))
        sum(losses.values()).backward()
        assert [value.item() for value in losses.values()] == [0, 0]
        assert torch.count_nonzero(logits.grad) == 0

    def test_each_mask_may_have_its_own_valid_pixels(self):
        logits, masks = self.example()
        valid, call = torch.rand(3, 1, 52).expand(3, 40, 52) < 0.7, self.call()
        together = self.build()(logits, masks, valid=valid, **call)
        for name, value in together.items():
            alone = [
                self.build()(
                    logits[i : i + 1], masks[i : i + 1], valid=valid[i], **{k: v[i : i + 1] for k, v in call.items()}
                )[name]
                for i in range(3)
            ]
            torch.testing.assert_close(value, sum(alone) / 3)

    # Values of the released codes

    def golden_case(self, path, **settings):
        """Compares losses and gradients with a golden file, given its matches and points."""
        golden = load_golden(path)
        logits, grad = golden['mask_logits'], golden['grad_masks']
        logits, grad = (logits[None], grad[None]) if logits.dim() == 4 else (logits, grad)
        num_layers, images = logits.shape[:2]
        masks = [golden[f'gt_masks{image}'] for image in range(images)]
        matches = [
            [(golden[f'match_query_{layer}_{i}'], golden[f'match_gt_{layer}_{i}']) for i in range(images)]
            for layer in range(num_layers)
        ]
        coords = [[golden[f'loss_coords_{layer}'] for layer in range(num_layers)]] if self.on_points else []
        factor = max(sum(map(len, masks)), 1)
        weights = (golden.get('cost_mask', 1), golden.get('cost_dice', 1))
        for maps in (logits, list(logits)):
            leaves = [maps.requires_grad_()] if maps is logits else [layer.requires_grad_() for layer in maps]
            losses = layer_losses(self.build(**settings), maps, masks, matches, factor, *coords)
            for name, values in losses.items():
                for layer, value in enumerate(values):
                    suffix = '' if layer == num_layers - 1 else f'_{layer}'
                    assert_relative(value, golden[f'out.{name}{suffix}'], 1e-5, f'{name} of layer {layer}')
            total = sum(weight * values.sum() for weight, values in zip(weights, losses.values(), strict=True))
            found = torch.autograd.grad(total, leaves)
            assert_relative(found[0] if maps is logits else torch.stack(found), grad, 1e-5, 'gradient')
            logits = logits.detach()

    @pytest.mark.cuda
    @pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
    @pytest.mark.parametrize('as_list', [False, True])
    @pytest.mark.parametrize('ignore', [False, True])
    def test_cuda_equals_cpu(self, as_list, ignore):
        logits, masks, matches, factor, *coords = self.layers(images=4)
        valid = [self.regions()[0]] * 4 if ignore else None
        loss = self.build()
        logits.requires_grad_()
        expected = layer_losses(loss, logits, masks, matches, factor, *coords, valid=valid)
        (expected_grad,) = torch.autograd.grad(sum(value.sum() for value in expected.values()), logits)
        on_device = logits.detach().cuda().requires_grad_()
        given = [mask.cuda() for mask in masks], matches, factor, *([c.cuda() for c in part] for part in coords)
        valid = None if valid is None else [pixels.cuda() for pixels in valid]

        def run():
            maps = list(on_device.unbind()) if as_list else on_device
            return layer_losses(loss, maps, *given, valid=valid)

        run()  # the first call may set something up
        torch.cuda.set_sync_debug_mode('error')  # a step never waits for the device
        try:
            losses = run()
            (grad,) = torch.autograd.grad(sum(value.sum() for value in losses.values()), on_device)
            if self.on_points:
                layer_losses(loss, on_device, *given[:3], valid=valid)
            match_inputs(loss, on_device, given[0], valid=valid)
        finally:
            torch.cuda.set_sync_debug_mode('default')
        for name, value in losses.items():
            torch.testing.assert_close(value.cpu(), expected[name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(grad.cpu(), expected_grad, rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize('shape', [(40, 52), (0, 40, 52)])
    def test_no_masks_and_a_map_of_valid_pixels(self, shape):
        """Fuzzing found a ValueError where there is a map for each of no masks."""
        logits, masks = self.example(number=0)
        losses = self.build()(logits.requires_grad_(), masks, valid=torch.ones(shape, dtype=torch.bool))
        assert [float(value) for value in losses.values()] == [0.0, 0.0]
        sum(losses.values()).backward()
