"""mmdet's own detectors train and predict with the plain operators, and as with the compiled ones where these are."""

import pytest
import torch

from mmplugins.hosts import problem_with
from mmplugins.ops import compiled
from tests.ops.plain import PLAIN, needs_compiled, use_plain

if problem_with('mmdet'):
    pytest.skip(problem_with('mmdet'), allow_module_level=True)

from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope

# Config, and the plain operators that training and prediction call on the CPU.
DETECTORS = {
    'retinanet': ('retinanet/retinanet_r50_fpn_1x_coco.py', {'nms'}),
    'fcos': ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', {'nms'}),
    'faster_rcnn': ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', {'nms', 'roi_align_forward', 'roi_align_backward'}),
    'mask_rcnn': ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', {'nms', 'roi_align_forward', 'roi_align_backward'}),
    'dino': ('dino/dino-4scale_r50_8xb2-12e_coco.py', set()),
    'dcn': (
        'dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py',
        {'nms', 'roi_align_forward', 'modulated_deform_conv_forward', 'modulated_deform_conv_backward'},
    ),
}
SMALLER = {256: 32, 128: 16, 1024: 64, 2048: 64, 512: 16, 80: 3, 900: 30}
BACKBONE = dict(base_channels=8, frozen_stages=-1, init_cfg=None, norm_eval=False, style='pytorch')
CHANNELS = [32, 64, 128, 256]


def shrink(settings, sizes):
    """Makes widths, classes and queries of a model's config small, wherever they are."""
    if isinstance(settings, dict):
        return {key: value if key.endswith('_cfg') else shrink(value, sizes) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [shrink(value, sizes) for value in settings]
    return settings if isinstance(settings, bool) else sizes.get(settings, settings)


def build(name):
    """Builds a small detector, the same each time."""
    config = get_config(f'mmdet::{DETECTORS[name][0]}')
    model = config.model.to_dict()
    backbone, neck = model.pop('backbone'), model.pop('neck')
    # mmdet 3.3's DINO works with 256 channels alone.
    sizes = {key: value for key, value in SMALLER.items() if name != 'dino' or key not in (128, 256)}
    small = {key: value if key.endswith('_cfg') else shrink(value, sizes) for key, value in model.items()}
    small['neck'] = shrink(neck, sizes) | dict(in_channels=CHANNELS[-len(neck['in_channels']) :])
    small['backbone'] = backbone | BACKBONE
    for part, layers in (('encoder', 1), ('decoder', 2)):
        if part in small:
            small[part]['num_layers'] = layers
            small[part]['layer_cfg']['ffn_cfg']['feedforward_channels'] = 64
    for settings in (small['test_cfg'], small['test_cfg'].get('rcnn', {})):
        settings.update(score_thr=0.0, max_per_img=20)  # so that an untrained one finds something
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        register_all_modules(init_default_scope=False)
        detector = MODELS.build(ConfigDict(small))
        detector.init_weights()
    return detector


def train_and_predict(name, steps=4):
    """Returns the loss of each step on the same images, and what is predicted for them afterwards."""
    detector = build(name)
    data = demo_mm_inputs(
        2, image_shapes=[(3, 64, 96), (3, 96, 64)], num_items=[2, 3], num_classes=3, with_mask=name == 'mask_rcnn'
    )
    optimizer = OptimWrapper(torch.optim.AdamW(detector.parameters(), 1e-3))
    losses = []
    with DefaultScope.overwrite_default_scope('mmdet'):
        for step in range(steps):
            torch.manual_seed(step)
            losses.append(float(detector.train_step(data, optimizer)['loss']))
        detector.eval()
        with torch.no_grad():
            predictions = [sample.pred_instances for sample in detector.test_step(data)]
    return losses, predictions


def count_calls(monkeypatch):
    """Counts the calls of each plain operator."""
    calls = {}
    for name, operator in vars(PLAIN).items():

        def counted(*args, name=name, operator=operator, **kwargs):
            calls[name] = calls.get(name, 0) + 1
            return operator(*args, **kwargs)

        monkeypatch.setattr(PLAIN, name, counted)
    use_plain(monkeypatch)
    return calls


@pytest.mark.parametrize('name', DETECTORS)
def test_trains_and_predicts(monkeypatch, name):
    calls = count_calls(monkeypatch)
    losses, predictions = train_and_predict(name)
    assert losses[-1] < losses[0]
    assert DETECTORS[name][1] <= set(calls)
    assert len(predictions) == 2
    for found in predictions:
        assert 0 < len(found) <= 20
        assert found.bboxes.isfinite().all()
        assert found.bboxes.shape == (len(found.scores), 4)
        assert set(found.labels.tolist()) <= {0, 1, 2}
        if name == 'mask_rcnn':
            assert found.masks.shape[0] == len(found.scores)


@needs_compiled
@pytest.mark.parametrize('name', DETECTORS)
def test_same_as_with_compiled_operators(name):
    assert compiled()
    theirs, expected = train_and_predict(name, steps=2)
    with pytest.MonkeyPatch.context() as patch:
        use_plain(patch)
        ours, predictions = train_and_predict(name, steps=2)
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert [len(found) for found in predictions] == [len(found) for found in expected]
