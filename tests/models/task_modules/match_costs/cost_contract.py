"""What every match cost must do, as a test class: mmdet's call and values, stacked layers, float32."""

import inspect

import pytest
import torch
from mmengine.structures import InstanceData

from mmplugins.functional.device import full_precision
from mmplugins.hosts import problem_with
from mmplugins.registry import TASK_UTILS
from mmplugins.testing import assert_relative

META = {'img_shape': (80, 100), 'img_path': 'a.jpg'}
LAYERS, QUERIES, OBJECTS, CLASSES = 3, 6, 4, 5
needs_mmdet = pytest.mark.skipif(bool(problem_with('mmdet')), reason=str(problem_with('mmdet')))


def predictions(dtype=torch.float32, seed=0) -> InstanceData:
    """Stacked predictions; boxes of 100 x 80 pixels, masks of 8 x 10."""
    generator = torch.Generator().manual_seed(seed)
    start = 50 * torch.rand(LAYERS, QUERIES, 2, generator=generator)
    boxes = torch.cat((start, start + 1 + 29 * torch.rand(LAYERS, QUERIES, 2, generator=generator)), dim=-1)
    scores = 2 * torch.randn(LAYERS, QUERIES, CLASSES, generator=generator)
    masks = 3 * torch.randn(LAYERS, QUERIES, 8, 10, generator=generator)
    return InstanceData(scores=scores.to(dtype), bboxes=boxes.to(dtype), masks=masks.to(dtype))


def ground_truths(seed=1) -> InstanceData:
    generator = torch.Generator().manual_seed(seed)
    start = 50 * torch.rand(OBJECTS, 2, generator=generator)
    boxes = torch.cat((start, start + 1 + 29 * torch.rand(OBJECTS, 2, generator=generator)), dim=-1)
    masks = torch.rand(OBJECTS, 8, 10, generator=generator) < 0.4
    return InstanceData(labels=torch.tensor([0, 4, 2, 4]), bboxes=boxes, masks=masks)


def layer_of(instances: InstanceData, layer: int) -> InstanceData:
    return InstanceData(**{name: value[layer] for name, value in instances.items()})


@pytest.mark.usefixtures('each_path')
class MatchCostContract:
    """Tests that every match cost must pass.

    Attributes:
        cost_type: Registered name, without the scope.
        settings: Constructor arguments under which the contract holds.
    """

    cost_type: str
    settings: dict = {}

    def build(self, **settings):
        return TASK_UTILS.build({'type': f'mmplugins.{self.cost_type}', **self.settings, **settings})

    def predictions(self, dtype: torch.dtype = torch.float32) -> InstanceData:
        return predictions(dtype)

    def test_smoke(self):
        value = self.build()(self.predictions(), ground_truths(), META, stacked=True)
        assert value.shape == (LAYERS, QUERIES, OBJECTS)
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all()
        assert len(value.unique()) > 10

    def test_layers_together_equal_one_by_one(self):
        cost, pred, true = self.build(), self.predictions(), ground_truths()
        together = cost(pred, true, META, stacked=True)
        for layer in range(LAYERS):
            alone = cost(layer_of(pred, layer), true, META)
            assert alone.shape == (QUERIES, OBJECTS)
            torch.testing.assert_close(together[layer], alone)

    def test_weight(self):
        value = self.build()(self.predictions(), ground_truths(), META, stacked=True)
        torch.testing.assert_close(
            self.build(weight=3)(self.predictions(), ground_truths(), META, stacked=True), 3 * value
        )

    @pytest.mark.parametrize(('queries', 'objects'), [(0, OBJECTS), (QUERIES, 0), (0, 0), (1, 1)])
    def test_empty_and_single(self, queries, objects):
        pred = layer_of(self.predictions(), 0)[:queries]
        true = ground_truths()[:objects]
        assert self.build()(pred, true, META).shape == (queries, objects)
        stacked = InstanceData(**{name: value[None] for name, value in pred.items()})
        assert self.build()(stacked, true, META, stacked=True).shape == (1, queries, objects)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
    def test_dtype_and_autocast(self, dtype):
        pred = self.predictions(dtype)
        exact = InstanceData(**{name: full_precision(value) for name, value in pred.items()})
        expected = self.build()(exact, ground_truths(), META, stacked=True)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            value = self.build()(pred, ground_truths(), META, stacked=True)
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert torch.equal(value, expected)

    def test_input_is_left_alone(self):
        pred, true = self.predictions(), ground_truths()
        self.build()(pred, true, META, valid=torch.ones(8, 10), stacked=True)
        for name, value in [*self.predictions().items(), *ground_truths().items()]:
            assert any(torch.equal(value, given[name]) for given in (pred, true) if name in given)

    def test_arguments_of_other_costs_are_ignored(self):
        value = self.build()(self.predictions(), ground_truths(), META, an_argument_of_another_cost=1, stacked=True)
        assert torch.equal(value, self.build()(self.predictions(), ground_truths(), META, stacked=True))

    def test_settings_are_shown(self):
        assert repr(self.build(weight=2.5)).startswith(f'{self.cost_type}(weight=2.5')

    @needs_mmdet
    def test_equals_mmdet(self):
        import mmdet.models.task_modules.assigners as mmdet_costs

        theirs = getattr(mmdet_costs, self.cost_type)(**self.settings)
        pred, true = layer_of(self.predictions(), 1), ground_truths()
        expected = theirs(pred_instances=pred, gt_instances=true, img_meta=META)
        value = self.build()(pred_instances=pred, gt_instances=true, img_meta=META)
        assert_relative(value, expected, 1e-5)

    @needs_mmdet
    def test_arguments_and_defaults_are_mmdets(self):
        import mmdet.models.task_modules.assigners as mmdet_costs

        ours, theirs = (
            {name: parameter.default for name, parameter in inspect.signature(cls.__init__).parameters.items()}
            for cls in (type(self.build()), getattr(mmdet_costs, self.cost_type))
        )
        assert list(ours) == list(theirs)
        assert ours == theirs
        call = inspect.signature(getattr(mmdet_costs, self.cost_type).__call__).parameters
        assert list(inspect.signature(type(self.build()).__call__).parameters)[: len(call) - 1] == list(call)[:-1]


class MaskCostContract(MatchCostContract):
    """Tests that every cost of masks must pass."""

    def stacked(self, pred, true, **options):
        return self.build()(pred, true, stacked=True, **options)

    def test_points_are_what_pixels_are(self):
        pred, true = self.predictions(), ground_truths()
        value = self.stacked(pred, true)
        points = InstanceData(masks=pred.masks.flatten(2)), InstanceData(masks=true.masks.flatten(1))
        assert torch.equal(self.stacked(*points), value)
        each_layer = points[1].masks.expand(LAYERS, OBJECTS, 80)
        torch.testing.assert_close(self.stacked(points[0], InstanceData(masks=each_layer)), value)

    def test_the_caller_says_whether_predictions_are_stacked(self):
        """(4, 6, 5) beside (4, 6, 5): 4 layers of 6 queries and 6 objects, or 4 queries of 6 x 5 pixels."""
        open_shape = torch.rand(4, 6, 5)
        pred, true = InstanceData(masks=open_shape), InstanceData(masks=open_shape > 0.5)
        pred.scores = torch.rand(4, 6, 3)
        assert self.build()(pred, true).shape == (4, 4)  # mmdet's call
        assert self.stacked(pred, true).shape == (4, 6, 6)
        message = (
            r'got \(4, 8, 10\) beside \(3, 6, 8, 10\) with stacked=False; predictions of all layers need stacked=True'
        )
        with pytest.raises(ValueError, match=message):
            self.build()(self.predictions(), ground_truths())

    def test_ignored_points_change_nothing(self):
        cost, pred, true = self.stacked, self.predictions(), ground_truths()
        valid = torch.arange(80).view(8, 10) % 3 != 1
        value = cost(pred, true, valid=valid)
        fewer = InstanceData(masks=pred.masks[..., valid]), InstanceData(masks=true.masks[:, valid])
        torch.testing.assert_close(value, cost(*fewer))
        torch.testing.assert_close(value, cost(pred, true, valid=valid.float().expand(LAYERS, 8, 10)))
        torch.testing.assert_close(value[1], self.build()(layer_of(pred, 1), true, valid=valid))
        points = InstanceData(masks=pred.masks.flatten(2)), InstanceData(masks=true.masks.flatten(1))
        torch.testing.assert_close(value, cost(*points, valid=valid.flatten()))
        assert not torch.allclose(value, cost(pred, true))

    def test_valid_may_differ_between_layers(self):
        pred, true = self.predictions(), ground_truths()
        valid = torch.stack([torch.arange(80).view(8, 10) % (2 + layer) != 1 for layer in range(LAYERS)])
        value = self.stacked(pred, true, valid=valid)
        for layer in range(LAYERS):
            torch.testing.assert_close(value[layer], self.build()(layer_of(pred, layer), true, valid=valid[layer]))

    def test_dtype_of_masks_changes_nothing(self):
        pred, true = self.predictions(), ground_truths()
        for dtype in (torch.uint8, torch.int64, torch.float32):
            other = InstanceData(masks=true.masks.to(dtype))
            assert torch.equal(self.stacked(pred, other), self.stacked(pred, true))

    def test_numbers_of_points_must_agree(self):
        with pytest.raises(ValueError, match=r'same number of points, got \[80, 40\]; sample or resize them alike'):
            self.stacked(self.predictions(), InstanceData(masks=ground_truths().masks[:, ::2]))
