"""LossPictureHook: what it records and draws, and that it leaves no trace.

That a training is the same with its pictures is tested with ValLossHook, on PSPNet, DETR, Mask2Former and AOT.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmengine.structures import BaseDataElement

from mmplugins.engine.hooks import LossPictureHook, loss_picture_hook
from mmplugins.engine.loss_drawings import (
    _of_frame,
    draw_clip,
    draw_matching,
    draw_pixels,
    draw_sampled_points,
    match_stability,
)
from mmplugins.engine.loss_records import LossRecorder
from mmplugins.functional.upsampled import UpsampledLogits
from mmplugins.hosts import problem_with
from mmplugins.models.losses import OhemCrossEntropyLoss, SetCriterion, StructureLoss
from mmplugins.visualization.figures import to_image
from mmplugins.visualization.pictures import input_images
from tests.models.losses.set_scenes import hungarian, scene


class Visualizer:
    dataset_meta = dict(classes=('ground', 'ball'), palette=[(90, 90, 90), (250, 0, 0)])

    def __init__(self):
        self.images, self.scalars = {}, {}

    def add_image(self, name, image, step):
        self.images[name, step] = image

    def add_scalar(self, name, value, step):
        self.scalars[name, step] = value


class Model(BaseModel):
    """A map of logits as parameters, whatever comes in, and a loss on it."""

    def __init__(self, loss, classes=2):
        super().__init__(ImgDataPreprocessor(mean=[10.0] * 3, std=[2.0] * 3, bgr_to_rgb=True))
        self.logits = torch.nn.Parameter(torch.zeros(2, classes, 6, 8))
        self.loss_decode = loss

    def forward(self, inputs, data_samples=None, mode='loss'):
        return self.loss_decode(self.logits, torch.stack([sample.label for sample in data_samples]), ignore_index=255)


def pixel_step(model, label):
    samples = [BaseDataElement(label=one) for one in label]
    inputs = [torch.full((3, 6, 8), 50 * (1 + index), dtype=torch.uint8) for index in range(len(label))]
    for image in inputs:
        image[0] = 200  # blue
    return model(**model.data_preprocessor(dict(inputs=inputs, data_samples=samples), True))


def runner(model, iteration=0, rank=0):
    return SimpleNamespace(model=model, iter=iteration, rank=rank, visualizer=Visualizer())


def traces(model):
    """Hooks and replaced methods that a model has."""
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    owners = [*model.modules(), *(m.assigner for m in model.modules() if hasattr(m, 'assigner'))]
    return hooks + sum(name in vars(one) for one in owners for name in ('assign_batch', 'sample_pairs', 'propagate'))


def test_nothing_is_touched_on_other_steps_and_ranks():
    """A runner without a model: any use of it would raise."""
    hook = LossPictureHook(interval=3)
    for rank, iteration in ((0, 1), (0, 3), (1, 0), (1, 2)):
        run = SimpleNamespace(rank=rank, iter=iteration)
        hook.before_train_iter(run, 0)
        hook.after_train_iter(run, 0)


def test_the_model_is_as_before_after_a_picture():
    model = Model(OhemCrossEntropyLoss(min_kept=10))
    run, hook = runner(model, 2), LossPictureHook(interval=3)
    hook.before_train_iter(run, 0)
    assert traces(model) == 2
    pixel_step(model, torch.zeros(2, 6, 8, dtype=torch.long))
    hook.after_train_iter(run, 0)
    assert traces(model) == 0
    assert set(run.visualizer.images) == {('look_pixels', 3)}
    image = run.visualizer.images['look_pixels', 3]
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    hook.before_train_iter(run, 0)  # a step that fails, or ends the training
    hook.after_train(run)
    assert traces(model) == 0


def test_kept_pixels_are_drawn_over_the_images():
    """The lower half is learned, so that OHEM keeps the upper one; the last column is ignored."""
    model = Model(OhemCrossEntropyLoss(thresh=0.7, min_kept=1))
    label = torch.ones(2, 6, 8, dtype=torch.long)
    label[..., -1] = 255
    model.logits.data[:, 1, 3:] = 9
    record = LossRecorder(model, max_images=1)
    assert record.attach()
    pixel_step(model, label)
    record.detach()
    found = record.pixels['loss_decode']
    assert (found.kind, found.label) == ('kept', 'ohem')
    expected = torch.zeros(1, 6, 8, dtype=torch.bool)
    expected[:, :3, :-1] = True
    assert torch.equal(found.maps[0], expected)
    assert found.predictions[0][0, :, 0].tolist() == [0, 0, 0, 1, 1, 1]
    figure = draw_pixels(record, Visualizer.dataset_meta)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ['image', 'truth', 'prediction', 'kept by ohem']
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert shown[0][0, 0].tolist() == [50, 50, 200]  # red, green, blue
    assert shown[1][0, 0].tolist() == [250, 0, 0]
    assert shown[1][0, -1].tolist() == [0, 0, 0]
    assert shown[3][0, 0].tolist() == [255, 120, 0]
    assert shown[3][4, 0].tolist() != [255, 120, 0]
    assert figure.axes[3].get_xlabel() == '50% of the pixels'
    assert to_image(figure).ndim == 3


def test_logits_of_low_resolution_and_weights_are_drawn():
    class Low(Model):
        def forward(self, inputs, data_samples=None, mode='loss'):
            label = torch.stack([sample.label for sample in data_samples])
            return self.loss_decode(UpsampledLogits(self.logits[..., ::2, ::2], (6, 8), False), label)

    model = Low(StructureLoss(kernel_size=3), classes=1)
    label = torch.zeros(2, 6, 8, dtype=torch.long)
    label[:, 2:4, 3:5] = 1
    record = LossRecorder(model, max_images=2)
    record.attach()
    pixel_step(model, label)
    record.detach()
    weight = record.pixels['loss_decode'].maps[0]
    assert weight[0, 2, 3] == pytest.approx(1 + 5 * 5 / 9)  # 4 of 9 pixels around it are foreground
    assert weight[0, 0, 0] == 1
    figure = draw_pixels(record, None)
    assert [axis.get_title() for axis in figure.axes[:4]] == ['image', 'mask', 'prediction', 'weight of structure']
    assert figure.axes[3].get_xlabel() == f'up to {weight[0].max():.1f}, mean {weight[0].mean():.1f}'


def test_matching_and_its_costs():
    """The costs that are written are those that were matched, and the pairs those of the criterion."""

    class Detector(BaseModel):
        def __init__(self):
            super().__init__(ImgDataPreprocessor())
            self.criterion = SetCriterion(4, hungarian())

        def forward(self, inputs, data_samples=None, mode='loss'):
            return self.criterion(*data_samples[0].scene)

    outputs, targets = scene((3, 0))
    model = Detector()
    record = LossRecorder(model, max_images=2)
    assert record.attach()
    samples = [BaseDataElement(metainfo=dict(scene=(outputs, targets)))] * 2
    data = model.data_preprocessor(dict(inputs=[torch.zeros(3, 40, 60)] * 2, data_samples=samples), True)
    losses = model(**data)
    record.detach()
    assert traces(model) == 0
    plain = model(**data)
    assert all(torch.equal(losses[name], plain[name]) for name in plain)
    call = record.matching.call
    terms = model.criterion.assigner.cost_terms(
        call['pred_instances'][0], call['gt_instances'][0], call['img_metas'][0]
    )
    figure = draw_matching(record, dict(classes=('a', 'b', 'c', 'd')))
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert len(figure.axes) == 2  # the image without objects has no row
    columns = 3 + len(terms) + 1
    assert texts[:3] == ['object', 'query', 'in layers']
    query, target = (int(part[0]) for part in record.matching.pairs[-1][0])
    row = next(texts[i : i + columns] for i in range(columns, len(texts), columns) if texts[i].startswith(f'{target} '))
    assert row[0] == f'{target} {"abcd"[int(targets[0]["labels"][target])]}'
    assert row[1] == str(query)
    costs = [float(term[-1, query, target]) for term in terms.values()]
    assert row[3:] == [f'{value:.2f}' for value in (*costs, sum(costs))]
    assert len(figure.axes[0].patches) == 6  # a box solid, a box dashed
    assert draw_sampled_points(record) is None
    assert draw_clip(record) is None
    assert draw_pixels(record, None) is None


def test_stability():
    """Three objects in two images; the middle one changes its query. The first layer has no part."""
    one, two = torch.tensor([1, 2]), torch.tensor([0])
    before = [(torch.tensor([4, 7]), one), (torch.tensor([5]), two)]
    last = [(torch.tensor([4, 9]), one), (torch.tensor([5]), two)]
    assert match_stability([last, before, last]) == pytest.approx(2 / 3)
    assert match_stability([last]) is None
    nothing = [(torch.zeros(0), torch.zeros(0))]
    assert match_stability([nothing, nothing]) is None


@pytest.mark.parametrize('swap', [True, False])
def test_inputs_become_images_again(swap):
    preprocessor = ImgDataPreprocessor(mean=[10.0, 20, 30], std=[2.0, 4, 8], bgr_to_rgb=swap)
    image = torch.tensor([250, 120, 3], dtype=torch.uint8).view(3, 1, 1)  # blue, green, red
    inputs = preprocessor(dict(inputs=[image]))['inputs']
    assert input_images(inputs, preprocessor)[0, 0, 0].tolist() == [3, 120, 250]
    plain = ImgDataPreprocessor(bgr_to_rgb=swap)
    assert input_images(plain(dict(inputs=[image]))['inputs'], plain)[0, 0, 0].tolist() == [3, 120, 250]


def test_a_picture_that_fails_is_told_once(monkeypatch, caplog):
    told = []
    monkeypatch.setattr(loss_picture_hook, 'print_log', lambda text, *_: told.append(text))
    monkeypatch.setattr(loss_picture_hook, 'draw_pixels', lambda *_: 1 / 0)
    model, hook = Model(OhemCrossEntropyLoss()), LossPictureHook(interval=1)
    for iteration in range(2):
        run = runner(model, iteration)
        hook.before_train_iter(run, 0)
        pixel_step(model, torch.zeros(2, 6, 8, dtype=torch.long))
        hook.after_train_iter(run, 0)
    assert told == ['LossPictureHook cannot draw look_pixels: ZeroDivisionError: division by zero']
    model = Model(torch.nn.Identity())
    hook.before_train_iter(runner(model), 0)
    hook.after_train_iter(runner(model), 0)
    assert told[1].startswith('LossPictureHook finds nothing to draw: no loss of the model has kept_pixels')
    assert traces(model) == 0


def test_settings():
    with pytest.raises(ValueError, match='interval and max_images are at least 1, got 0 and 3'):
        LossPictureHook(interval=0)


@pytest.mark.skipif(problem_with('mmseg') is not None, reason=f'mmseg: {problem_with("mmseg")}')
@pytest.mark.parametrize('aux_loss_steps', [100, 0])
def test_a_clip(aux_loss_steps):
    """Each frame has its own objects, identities, prediction and kept pixels; the reference may be not decoded."""
    from tests.models.segmentors.aot.aot_models import clips, moving_masks, samples, tiny_aot

    model = tiny_aot(train_cfg=dict(aux_loss_steps=aux_loss_steps, gap=1), max_objects=3).train()
    masks = moving_masks(length=4)
    inputs = list((127 + 60 * clips(length=4)).clamp(0, 255).to(torch.uint8))
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', 0)
    record = LossRecorder(model, max_images=1)
    assert record.attach()
    model(**model.data_preprocessor(dict(inputs=inputs, data_samples=samples(masks)), True), mode='loss')
    record.detach()
    assert traces(model) == 0
    assert 'resize' not in vars(model.network)
    clip, kept = record.clip, record.pixels['loss_decode.0']
    assert clip.stored == [1, 2, 3]  # the long-term memory of frames 1, 2, 3
    assert len(clip.identities) == 3  # the last frame is not needed any more
    for frame, identities in enumerate(clip.identities):
        assert torch.equal(identities > 0, masks[:1, frame] > 0)
    decoded = 4 if aux_loss_steps else 3
    assert [len(one) for one in (clip.decoded, kept.maps)] == [decoded, decoded]
    for frame in range(4):
        found = _of_frame(kept, frame, 4)
        if frame == 0 and not aux_loss_steps:
            assert found is None
            continue
        call = [one is found for one in kept.maps].index(True)
        assert torch.equal(kept.targets[call], masks[:1, frame])
        assert torch.equal(kept.predictions[call], clip.decoded[frame - (4 - decoded)])
    figure = draw_clip(record)
    axes = np.array(figure.axes).reshape(4, 4)  # rows, frames
    assert [axis.get_title() for axis in axes[0]] == ['frame 0, reference', 'frame 1', 'frame 2', 'frame 3']
    assert [axis.get_xlabel() for axis in axes[0]] == [
        'objects, given',
        *(f'sees frame {frame}; long-term: {frame + 1}' for frame in range(3)),
    ]
    assert axes[1][3].get_xlabel() == 'not needed in the memory'
    assert axes[2][0].get_xlabel() == ('prediction' if aux_loss_steps else 'not decoded')
    assert axes[3][1].get_xlabel() == '100% kept by topk'
