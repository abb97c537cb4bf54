"""What MaskFormerHead and Mask2FormerHead must do alike; each has a test class of its own that adds to this."""

import copy

import numpy as np
import pytest
import torch
from mmdet.models.losses import CrossEntropyLoss
from mmdet.models.task_modules.samplers import MaskPseudoSampler
from mmdet.registry import MODELS as TOOLBOX_MODELS
from mmdet.registry import TASK_UTILS as TOOLBOX_TASKS
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData, PixelData

from mmplugins.testing import assert_relative
from tests.models.mask_models import features, predictions, raw_batch, rectangles, sample, small_detector, small_head


@TOOLBOX_MODELS.register_module()
class CountingCrossEntropyLoss(CrossEntropyLoss):
    """A user's loss: with a parameter of its own, and a count of its calls."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.scale = torch.nn.Parameter(torch.tensor(2.0))
        self.calls = 0

    def forward(self, *args, **kwargs):
        self.calls += 1
        return super().forward(*args, **kwargs) * self.scale


@TOOLBOX_TASKS.register_module()
class AreaCost:
    """A user's cost, which knows neither stacked layers nor pixels that are left out."""

    def __init__(self, weight=1.0):
        self.weight = weight

    def __call__(self, pred_instances, gt_instances, img_meta=None, **kwargs):
        area = pred_instances.masks.flatten(1).sigmoid().mean(1)[:, None]
        difference = area - gt_instances.masks.flatten(1).float().mean(1)
        return difference.abs().sqrt() * self.weight  # without the root, many assignments cost the same


@TOOLBOX_TASKS.register_module()
class UserSampler(MaskPseudoSampler):
    """A user's sampler."""


class MaskHeadContract:
    """Tests of a head; ``model`` names it."""

    model: str

    def head(self, ours=True, **settings):
        return small_head(self.model, ours, **settings)

    def targets(self, head, samples):
        sem_segs = [one.gt_sem_seg if 'gt_sem_seg' in one else None for one in samples]
        return head.preprocess_gt([one.gt_instances for one in samples], sem_segs)

    def losses(self, head, outputs, samples, **options):
        """Losses of given predictions, with the same random points each time."""
        torch.manual_seed(0)
        losses = head.loss_by_feat(*outputs, self.targets(head, samples), [one.metainfo for one in samples], **options)
        return {name: value for name, value in losses.items() if 'loss' in name}

    def predicted(self, head, outputs):
        """Makes a head predict what is given, in the form in which it does."""
        as_given = outputs if self.model == 'MaskFormer' else [list(part) for part in outputs]
        head.forward = lambda x, batch_data_samples: tuple(as_given)
        return head

    # smoke

    def test_losses_have_the_names_of_the_toolbox(self):
        samples = [sample(3), sample(2, seed=1)]
        losses = self.head().loss(features(), samples)
        assert list(losses) == [*self.head(ours=False).loss(features(), samples), 'class_error']
        assert all(torch.isfinite(value) for value in losses.values())

    def test_gradients_reach_the_parameters_that_they_reach_in_the_toolbox(self):
        without = []
        for head in (self.head(), self.head(ours=False)):
            losses = head.loss(features(), [sample(3), sample(2, seed=1)])
            sum(value for name, value in losses.items() if 'loss' in name).sum().backward()
            without.append([name for name, parameter in head.named_parameters() if parameter.grad is None])
        assert without[0] == without[1]

    # errors

    def test_class_weight_is_checked(self):
        loss = dict(type='mmdet.CrossEntropyLoss', class_weight=[1.0] * 6)
        with pytest.raises(ValueError, match='needs 7 numbers, one for each of 6 classes and one for no-object, got 6'):
            self.head(loss_cls=loss)
        with pytest.raises(ValueError, match=r'must be a list of numbers, got 0\.1'):
            self.head(loss_cls=dict(type='mmdet.CrossEntropyLoss', class_weight=0.1))

    def test_a_wrong_label_names_the_image(self):
        wrong = sample(2, img_path='b.jpg')
        wrong.gt_instances.labels[1] = 6
        with pytest.raises(ValueError, match=r'object 1 of b.jpg has the label 6, but there are 6 classes'):
            self.losses(self.head(), predictions(), [sample(3), wrong])

    def test_masks_of_another_size_name_the_image(self):
        wrong = sample(2, height=60, num_stuff=0, img_path='b.jpg', batch_input_shape=(64, 96))
        message = r'masks of b.jpg are \(60, 96\), but the padded input is \(64, 96\).*set pad_mask=True'
        with pytest.raises(ValueError, match=message):
            self.head().loss(features(), [sample(3), wrong])

    def test_masks_and_semantic_map_of_two_sizes(self):
        wrong = sample(2)
        wrong.gt_sem_seg = PixelData(sem_seg=wrong.gt_sem_seg.sem_seg[:, :60])
        with pytest.raises(ValueError, match=r'masks \(64, 96\) and semantic map \(60, 96\).*pad_seg=True'):
            self.targets(self.head(), [wrong])

    def test_an_instance_of_a_class_of_stuff(self):
        """As where the annotations list stuff before things: nothing else would tell."""
        wrong = sample(2)
        wrong.gt_instances.labels[1] = 4
        with pytest.raises(
            ValueError, match=r'image 1 of the batch has an instance of class 4, .* labels 0 to 3 .*list th'
        ):
            self.head().loss(features(), [sample(3), wrong])

    # shapes

    def test_outputs_and_weights_are_the_toolboxes(self):
        """Also after init_weights, and without a training config."""
        head, reference = self.head(), self.head(ours=False)
        reference.load_state_dict(head.state_dict())
        samples = [sample(3), sample(2, seed=1)]
        for ours, theirs in zip(head(features(), samples), reference(features(), samples), strict=True):
            assert_relative(torch.stack(list(ours)), torch.stack(list(theirs)).detach(), 1e-6)
        (scores, masks), theirs = (one.predict(features(), samples) for one in (head, reference))
        assert torch.equal(scores, theirs[0])
        assert masks.shape == theirs[1].shape
        assert torch.equal(masks.full(), theirs[1])  # which mmdet's fusion head gets image by image
        assert torch.equal(torch.stack(list(masks)), theirs[1])
        head.init_weights()
        bare = self.head(train_cfg=None)
        assert bare.criterion is None
        assert bare.state_dict().keys() == head.state_dict().keys()

    def test_inputs_of_one_layer_query_and_pixel(self):
        logits, masks = predictions(num_layers=1, batch=1, queries=1, size=(1, 1))
        losses = self.losses(self.head(), (logits, masks), [sample(3)])
        assert list(losses) == ['loss_cls', 'loss_mask', 'loss_dice']
        sum(losses.values()).backward()
        assert torch.isfinite(logits.grad).all()
        assert masks.grad.abs().sum() > 0

    # values

    def test_targets_are_the_toolboxes_as_bool(self):
        samples = [sample(3), sample(0, seed=1), sample(2, seed=2, num_stuff=0)]
        head = self.head()
        ours, theirs = self.targets(head, samples), self.targets(self.head(ours=False), samples)
        for one, other in zip(ours, theirs, strict=True):
            # things as they come, then stuff, which the toolbox does not sort on PyTorch 2.1
            order = other.labels.clamp(min=head.num_things_classes - 1).argsort(stable=True)
            assert one.masks.dtype == torch.bool
            assert torch.equal(one.labels, other.labels[order])
            assert torch.equal(one.masks.long(), other.masks[order])

    def test_instance_masks_are_used_where_they_lie(self):
        one = sample(3, num_stuff=0)
        [target] = self.targets(self.head(classes=(6, 0)), [one])
        assert target.masks.data_ptr() == one.gt_instances.masks.masks.ctypes.data

    def test_masks_in_other_forms(self):
        """Tensors of any dtype, polygons, and bitmaps that hold other numbers than 0 and 1."""
        head, masks = self.head(classes=(6, 0)), rectangles(3, 64, 96)
        forms = [
            torch.from_numpy(masks),
            torch.from_numpy(masks).long(),
            torch.from_numpy(masks).byte() * 255,
            BitmapMasks(masks.astype(np.uint8) * 255, 64, 96),
            BitmapMasks(masks.astype(np.int64), 64, 96),
        ]
        for form in forms:
            [target] = head.preprocess_gt([InstanceData(labels=torch.arange(3), masks=form)], [None])
            assert target.masks.dtype == torch.bool
            assert torch.equal(target.masks, torch.from_numpy(masks))
        form = PolygonMasks([[np.array([4.0, 4, 40, 4, 40, 30, 4, 30])]] * 2, 64, 96)
        [target] = head.preprocess_gt([InstanceData(labels=torch.arange(2), masks=form)], [None])
        assert 900 < target.masks[0].sum() < 1000

    def test_class_error_is_logged(self):
        """Percent of the matched queries of the last layer whose best class is wrong: all, then none."""
        logits, masks = predictions(batch=1)
        one = sample(3, num_stuff=0)
        with torch.no_grad():
            for label, expected in ((5, 100.0), (None, 0.0)):
                one.gt_instances.labels[:] = 2
                logits[-1] = 0
                logits[-1, ..., 2 if label is None else label] = 9
                losses = self.head().loss_by_feat(logits, masks, self.targets(self.head(), [one]), [one.metainfo])
                assert float(losses['class_error']) == expected

    # identities

    def test_layers_in_a_list_or_stacked(self):
        logits, masks = predictions()
        head, samples = self.head(), [sample(3), sample(2, seed=1)]
        stacked = self.losses(head, (logits, masks), samples)
        apart = self.losses(head, (list(logits), list(masks)), samples)
        for name, value in stacked.items():
            assert_relative(apart[name], value.detach(), 1e-6, name)
        gradients = [torch.autograd.grad(sum(one.values()), [logits, masks]) for one in (stacked, apart)]
        for one, other in zip(*gradients, strict=True):
            assert_relative(one, other, 1e-6)

    def test_without_objects_all_is_attached(self):
        """A batch without any object, and one without objects but with stuff."""
        logits, masks = predictions()
        for stuff in (0, 2):
            samples = [sample(0, num_stuff=stuff), sample(0, num_stuff=stuff)]
            losses = self.losses(self.head(), (list(logits), list(masks)), samples)
            gradients = torch.autograd.grad(sum(losses.values()), [logits, masks])
            assert all(torch.isfinite(gradient).all() for gradient in gradients)
            assert (float(losses['loss_mask'].detach()) == 0) == (stuff == 0)
            for name, value in losses.items():
                assert value.requires_grad, name

    def test_an_object_smaller_than_a_pixel_and_one_without_pixels(self):
        one = sample(3, num_stuff=0)
        one.gt_instances.masks.masks[0] = 0
        one.gt_instances.masks.masks[1] = 0
        one.gt_instances.masks.masks[1, 3, 3] = 1
        logits, masks = predictions(batch=1)
        losses = self.losses(self.head(), (logits, masks), [one])
        for gradient in torch.autograd.grad(sum(losses.values()), [logits, masks]):
            assert torch.isfinite(gradient).all()

    def test_a_hook_may_change_a_weight(self):
        head, samples = self.head(), [sample(3), sample(2, seed=1)]
        outputs = predictions()
        before = self.losses(head, outputs, samples)
        head.loss_dice.loss_weight *= 3
        after = self.losses(head, outputs, samples)
        assert_relative(after['d0.loss_dice'], 3 * before['d0.loss_dice'].detach(), 1e-6)
        assert_relative(after['loss_mask'], before['loss_mask'].detach(), 1e-6)

    # other losses, costs, assigners, samplers

    def test_a_users_losses_are_called(self):
        """And stand once in the state dict, where the toolbox has them."""
        loss = dict(type='CountingCrossEntropyLoss', class_weight=[1.0] * 6 + [0.1])
        head = self.head(loss_cls=loss, loss_mask=dict(type='CountingCrossEntropyLoss', use_sigmoid=True))
        assert [name for name in head.state_dict() if 'scale' in name] == ['loss_cls.scale', 'loss_mask.scale']
        losses = self.losses(head, predictions(), [sample(3), sample(2, seed=1)])
        calls = head.loss_mask.calls
        assert head.loss_cls.calls == 3
        assert calls > 0
        sum(losses.values()).sum().backward()
        assert head.loss_mask.scale.grad is not None
        copied = copy.deepcopy(head)
        self.losses(copied, predictions(), [sample(3), sample(2, seed=1)])
        assert (head.loss_mask.calls, copied.loss_mask.calls) == (calls, 2 * calls)

    def test_the_toolboxes_assigner_and_costs(self):
        """Called layer by layer; the matching is the same, so all losses are."""
        train = self.head(ours=False).train_cfg
        outputs, samples = predictions(), [sample(3), sample(0, seed=1)]
        expected = self.losses(self.head(), outputs, samples)
        costs = dict(type='mmplugins.BatchHungarianAssigner', match_costs=train['assigner']['match_costs'])
        for assigner in (train['assigner'], costs):
            losses = self.losses(self.head(train=dict(assigner=assigner)), outputs, samples)
            for name, value in expected.items():
                assert_relative(losses[name], value.detach(), 1e-5, name)

    def test_a_users_cost(self):
        assigner = dict(type='mmdet.HungarianAssigner', match_costs=[dict(type='mmdet.AreaCost')])
        outputs, samples = predictions(), [sample(3), sample(2, seed=1)]
        theirs = self.losses(self.head(train=dict(assigner=assigner)), outputs, samples)
        ours = self.head(train=dict(assigner=assigner | dict(type='mmplugins.BatchHungarianAssigner')))
        ours = self.losses(ours, outputs, samples)
        for name, value in theirs.items():
            assert_relative(ours[name], value.detach(), 1e-6, name)

    def test_a_users_sampler_takes_the_toolboxes_way(self):
        head = self.head(train=dict(sampler=dict(type='mmdet.UserSampler')), ignore_aware=True)
        assert 'its sampler is UserSampler' in head.why_toolbox()
        losses = head.loss(features(), [sample(3), sample(2, seed=1)])
        assert all(torch.isfinite(value).all() for value in losses.values())

    def test_a_subclass_that_overrides_a_step(self):
        class Subclass(type(self.head())):
            def get_targets(self, *args, **kwargs):
                self.called = True
                return super().get_targets(*args, **kwargs)

        head = self.head()
        head.__class__ = Subclass
        losses = head.loss(features(), [sample(3), sample(2, seed=1)])
        assert head.called
        assert all(torch.isfinite(value).all() for value in losses.values())

    def test_boxes_without_masks(self):
        """Box annotations, or LoadAnnotations without with_mask."""
        samples = [sample(3), sample(2, seed=1, img_path='b.jpg')]
        del samples[1].gt_instances.masks
        message = r'b\.jpg has no masks \(gt_instances holds .*labels\).* set with_mask=True .*DETRHead'
        with pytest.raises(ValueError, match=message):
            self.head().loss(features(), samples)

    # pixels that take no part

    def crowded(self, ignore_aware=True):
        """A head and two images: pixels without a label, a crowd, padding; which pixels and logits take part."""
        head = self.head(ignore_aware=ignore_aware)
        samples = [sample(3), sample(2, seed=1, img_shape=(48, 96))]
        crowd = np.zeros((1, 64, 96), np.uint8)
        crowd[0, :24, 60:] = 1
        samples[0].ignored_instances = InstanceData(labels=torch.tensor([0]), masks=BitmapMasks(crowd, 64, 96))
        for one in samples:
            one.gt_sem_seg.sem_seg[:, 24:32, :40] = 255
        valid = torch.stack([one.gt_sem_seg.sem_seg[0] != 255 for one in samples])
        valid[0, :24, 60:] = False
        valid[1, 48:] = False
        seen = torch.nn.functional.max_pool2d(valid[:, None].float(), 4)[:, 0].bool()  # (B, 16, 24)
        return head, samples, valid, seen

    def test_what_takes_no_part(self):
        head, samples, expected, _ = self.crowded()
        found = []
        head.loss_by_feat = lambda scores, masks, targets, metas: found.extend(one['valid'] for one in targets)
        self.predicted(head, predictions()).loss(features(), samples)
        assert torch.equal(torch.stack(found), expected)

    @pytest.mark.parametrize('kind', ['ours', "the toolbox's costs", "the toolbox's assigner", "a user's losses"])
    def test_ignored_pixels_change_nothing(self, kind):
        """Neither losses nor gradients nor matching; the gradient is 0 where nothing is seen."""
        head, samples, _, seen = self.crowded()
        if kind == "the toolbox's costs":
            head.assigner.match_costs = self.head(ours=False).assigner.match_costs
        elif kind == "the toolbox's assigner":
            head.assigner = self.head(ours=False).assigner
        elif kind == "a user's losses":
            losses = dict(loss_mask=dict(type='CountingCrossEntropyLoss', use_sigmoid=True))
            losses.update(loss_dice=dict(type='mmdet.DiceLoss', naive_dice=True, eps=0.5))
            head = self.head(ignore_aware=True, **losses)
        logits, masks = predictions()
        hidden = ~seen[None, :, None].expand_as(masks)
        changed = torch.where(hidden, 20 * torch.randn(masks.shape), masks).detach().requires_grad_()
        assert 0.1 < hidden.float().mean() < 0.9
        found = []
        for one in (masks, changed):
            torch.manual_seed(0)
            losses = self.predicted(head, (logits, one)).loss(features(), samples)
            found.append((losses, torch.autograd.grad(sum(losses.values()).sum(), [logits, one])))
        for name, value in found[0][0].items():
            assert torch.equal(value, found[1][0][name]), name
        for first, second in zip(found[0][1], found[1][1], strict=True):
            assert torch.equal(first, second)
        assert (found[0][1][1][hidden] == 0).all()

    def test_ignored_pixels_change_something_by_default(self):
        head, samples, _, seen = self.crowded(ignore_aware=False)
        logits, masks = predictions()
        changed = torch.where(seen[None, :, None], masks, 20 * torch.randn(masks.shape))
        losses = []
        for one in (masks, changed):
            torch.manual_seed(0)
            losses.append(self.predicted(head, (logits, one)).loss(features(), samples))
        assert abs(float((losses[0]['loss_mask'] - losses[1]['loss_mask']).detach())) > 0.1

    def test_nothing_takes_part(self):
        head, samples, *_ = self.crowded()
        logits, masks = predictions()
        for one in samples:
            one.gt_sem_seg.sem_seg[:] = 255
        losses = self.predicted(head, (logits, masks)).loss(features(), samples)
        assert float(losses['loss_mask'].detach()) == float(losses['loss_dice'].detach()) == 0
        assert (torch.autograd.grad(sum(losses.values()), masks)[0] == 0).all()

    def test_where_all_takes_part_to_be_aware_changes_nothing(self):
        outputs, samples = predictions(), [sample(3, num_stuff=0), sample(2, seed=1, num_stuff=0)]
        found = []
        for aware in (False, True):
            torch.manual_seed(0)
            head = self.predicted(self.head(ignore_aware=aware), outputs)
            found.append(head.loss(features(), samples))
        for name, value in found[0].items():
            assert torch.equal(value, found[1][name]), name

    # dtype, device

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
    def test_half_precision(self, dtype):
        """Computed in float32: the losses are those of the rounded predictions; gradients come in their dtype."""
        rounded = [part.detach().to(dtype) for part in predictions()]
        samples = [sample(3), sample(2, seed=1)]
        expected = self.losses(self.head(), [part.float() for part in rounded], samples)
        outputs = [part.requires_grad_() for part in rounded]
        with torch.autocast('cpu', dtype=torch.bfloat16):
            losses = self.losses(self.head(), outputs, samples)
        for name, value in losses.items():
            assert value.dtype == torch.float32
            assert_relative(value, expected[name], 1e-5, name)
        for part, gradient in zip(outputs, torch.autograd.grad(sum(losses.values()), outputs), strict=True):
            assert gradient.dtype == part.dtype == dtype

    def test_float64(self):
        outputs = [part.detach().double() for part in predictions()]
        losses = self.losses(self.head(), outputs, [sample(3), sample(2, seed=1)])
        assert all(value.dtype == torch.float64 for value in losses.values())

    @pytest.mark.skipif(not torch.cuda.is_available(), reason='needs CUDA')
    def test_cuda(self):
        outputs = [part.detach().cuda().requires_grad_() for part in predictions()]
        samples = [sample(3).cuda(), sample(2, seed=1).cuda()]
        losses = self.losses(self.head().cuda(), outputs, samples)
        for gradient in torch.autograd.grad(sum(losses.values()), outputs):
            assert torch.isfinite(gradient).all()

    # in a detector

    @pytest.mark.slow
    @pytest.mark.parametrize('ignore_aware', [False, True])
    def test_training_steps(self, ignore_aware):
        """The loss falls, in a detector from mmdet, on images of two sizes; with bfloat16 in between."""
        detector = small_detector(self.model, num_points=256, ignore_aware=ignore_aware)
        optimizer, history = torch.optim.AdamW(detector.parameters(), 2e-3), []
        for step in range(15):
            torch.manual_seed(0)
            batch = detector.data_preprocessor(raw_batch(ignored=ignore_aware), training=True)
            with torch.autocast('cpu', dtype=torch.bfloat16, enabled=step in (3, 4) and self.model == 'MaskFormer'):
                losses = detector(**batch, mode='loss')
            total, log = detector.parse_losses(losses)
            assert all(torch.isfinite(value).all() for value in log.values())
            history.append(float(total.detach()))
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        assert history[-1] < 0.8 * history[0]

    @pytest.mark.slow
    def test_predictions_are_the_toolboxes(self):
        """Panoptic and instance segmentation of images of two sizes, from the same weights."""
        detectors = [small_detector(self.model, ours).eval() for ours in (True, False)]
        detectors[1].load_state_dict(detectors[0].state_dict())
        found = []
        for detector in detectors:
            torch.manual_seed(0)
            batch = detector.data_preprocessor(raw_batch())
            with torch.no_grad():
                found.append(detector(**batch, mode='predict'))
        for one, other in zip(*found, strict=True):
            assert torch.equal(one.pred_instances.masks, other.pred_instances.masks)
            assert torch.equal(one.pred_instances.scores, other.pred_instances.scores)
            assert torch.equal(one.pred_panoptic_seg.sem_seg, other.pred_panoptic_seg.sem_seg)
