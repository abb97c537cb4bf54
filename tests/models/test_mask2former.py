"""Mask2Former as our configs build it, against the released network: features of the backbone in, all layers out.

The weights are filled from the released names and converted, so that the converter is checked too.
"""

import json

import pytest
import torch

from mmplugins.hosts import problem_with
from mmplugins.testing import fill_state_dict, load_golden
from tests.locations import golden_files
from tests.tools.mask_converter_contract import build_model
from tools.model_converters.mask2former import convert

if problem := problem_with('mmdet'):
    pytest.skip(f'mmdet is needed: {problem}', allow_module_level=True)

from mmdet.structures import DetDataSample

CLASSES, LAYERS = 80, 10


@pytest.fixture(scope='module')
def released():
    path = golden_files('mask2former_r50_coco_instance_state_shapes.json')[0].values[0]
    return fill_state_dict(json.loads(path.read_text()))


def assert_mostly_equal(ours, golden):
    """Within 1e-3 but for single entries: the attention masks are thresholded, and rounding can flip a position."""
    golden = golden.float()
    assert ours.shape == golden.shape
    far = (ours - golden).abs() > 1e-3 * golden.abs().clamp(min=1)
    assert far.float().mean() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize('path', golden_files('mask2former_network.npz'))
@pytest.mark.parametrize('semantic', [False, True])
def test_released_network(path, released, semantic):
    """mmsegmentation's model has the same head; half of the stored values have half precision."""
    golden = load_golden(path)
    if semantic:
        model = build_model('mask2former_r50_seg.py', 'mmseg', CLASSES)
        head = model.decode_head
    else:
        model = build_model('mask2former_r50.py', 'mmdet', CLASSES)
        head = model.panoptic_head
    model.load_state_dict(convert(released, semantic=semantic), strict=True)
    features = [golden[f'res{stage}'] for stage in range(2, 6)]
    head.eval()
    with torch.no_grad():
        mask_features, levels = head.pixel_decoder(features)
        logits, masks = head(features, [DetDataSample()])
    assert [level.shape[-2:] for level in levels] == [feature.shape[-2:] for feature in features[:0:-1]]
    assert_mostly_equal(mask_features, golden['mask_features'])
    assert len(logits) == len(masks) == LAYERS
    for layer in range(LAYERS - 1):
        assert_mostly_equal(logits[layer], golden[f'aux_logits{layer}'])
    assert_mostly_equal(logits[-1], golden['logits'])
    assert_mostly_equal(masks[-1], golden['masks'])
