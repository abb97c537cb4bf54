"""DETR as our configs build it, against the released network: features of the backbone in, classes and boxes out.

The transformer's weights are filled from the released names and converted, so that the converter is checked too.
"""

import json

import pytest
import torch

from mmplugins.hosts import problem_with
from mmplugins.testing import fill_state_dict, load_golden
from tests.locations import golden_files
from tests.models.detr_models import build
from tools.model_converters.detr import KEPT_OUTPUTS, convert

if problem := problem_with('mmdet'):
    pytest.skip(f'mmdet is needed: {problem}', allow_module_level=True)

from mmdet.structures import DetDataSample

STRIDE = 32


def samples_of(mask):
    """Images whose padding gives the mask (B, h, w), True where padded."""
    size = tuple(STRIDE * side for side in mask.shape[1:])
    shapes = [(STRIDE * int((~one).any(1).sum()), STRIDE * int((~one).any(0).sum())) for one in mask]
    return [DetDataSample(metainfo=dict(img_shape=shape, batch_input_shape=size)) for shape in shapes]


def outputs(model, features, mask):
    """Logits and boxes of all layers."""
    with torch.no_grad():
        hidden = model.forward_transformer(model.neck((features,)), samples_of(mask))
        return model.bbox_head(**hidden)


@pytest.fixture(scope='module')
def released():
    path = next(param.values[0] for param in golden_files('detr_r50_state_shapes.json'))
    return fill_state_dict(json.loads(path.read_text()))


each_golden = pytest.mark.parametrize('path', golden_files('detr_network.npz'))


@pytest.mark.slow
@each_golden
@pytest.mark.parametrize('coco', [False, True])
def test_released_network(path, released, coco):
    golden = load_golden(path)
    model = build(80 if coco else 91).eval()
    model.load_state_dict(convert(released, coco=coco), strict=True)
    logits, boxes = outputs(model, golden['features'], golden['mask'])
    expected = golden['logits'][..., KEPT_OUTPUTS] if coco else golden['logits']
    assert logits.shape == expected.shape
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(boxes, golden['boxes'], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@each_golden
def test_the_mask_counts(path, released):
    """Without the padding of the second image its outputs differ, and those of the first do not."""
    golden = load_golden(path)
    model = build(91).eval()
    model.load_state_dict(convert(released))
    logits, _ = outputs(model, golden['features'], torch.zeros_like(golden['mask']))
    torch.testing.assert_close(logits[:, 0], golden['logits'][:, 0], rtol=1e-4, atol=1e-4)
    assert (logits[:, 1] - golden['logits'][:, 1]).abs().max() > 0.1


def test_predictions_are_those_of_the_released_postprocessing(released):
    """An 80-class model names the classes that the 92-output one does; boxes are in pixels of the original image."""
    torch.manual_seed(0)
    features = torch.randn(1, 2048, 3, 4)
    meta = dict(img_shape=(96, 128), batch_input_shape=(96, 128), ori_shape=(48, 64), scale_factor=(2.0, 2.0))
    found = {}
    for coco in (False, True):
        model = build(80 if coco else 91).eval()
        model.load_state_dict(convert(released, coco=coco))
        sample = DetDataSample(metainfo=meta)
        with torch.no_grad():
            hidden = model.forward_transformer(model.neck((features,)), [sample])
            found[coco] = model.bbox_head.predict(**hidden, batch_data_samples=[sample], rescale=True)[0]
            logits, boxes = model.bbox_head(hidden['hidden_states'])
        scores, labels = logits[-1, 0].softmax(-1)[:, :-1].max(-1)
        order = scores.argsort(descending=True)
        centre, size = boxes[-1, 0, :, :2], boxes[-1, 0, :, 2:]
        pixels = torch.cat([centre - size / 2, centre + size / 2], dim=1).clamp(0, 1) * torch.tensor([64, 48, 64, 48])
        torch.testing.assert_close(found[coco].scores, scores[order])
        assert torch.equal(found[coco].labels, labels[order])
        torch.testing.assert_close(found[coco].bboxes, pixels[order])
    ids = torch.tensor(KEPT_OUTPUTS)[found[True].labels]
    assert ids.max() <= 90
    assert len(found[True].labels) == len(found[False].labels) == 100


def test_dilated_stage_begins_as_torchvisions():
    """The first block of stage 5 keeps the dilation 1 of stage 4; all its strides are 1."""
    backbone = build(80, 'detr/detr_r50-dc5_16xb1-150e_coco-800x1333.py').backbone
    blocks = [(block.conv2.dilation[0], block.conv2.padding[0], block.conv2.stride[0]) for block in backbone.layer4]
    assert blocks == [(1, 1, 1), (2, 2, 1), (2, 2, 1)]
    assert backbone.layer4[0].downsample[0].stride == (1, 1)
    assert [stage[0].conv2.stride[0] for stage in (backbone.layer1, backbone.layer2, backbone.layer3)] == [1, 2, 2]
    assert backbone.state_dict().keys() == build(80).backbone.state_dict().keys()


def test_what_the_released_code_trains():
    """Stem, first stage and batch norms are frozen; the rest has a gradient."""
    model = build(80)
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    norms = {name for name, _ in model.named_parameters() if '.bn' in name or '.downsample.1' in name}
    first = {name for name, _ in model.named_parameters() if name.startswith(('backbone.conv1', 'backbone.layer1'))}
    assert fixed == norms | first
    model.train()
    assert not any(module.training for module in model.backbone.modules() if 'BatchNorm' in type(module).__name__)
