"""Initial weights of the mask predictors: the released distributions, by their bounds and deviations."""

import math

import pytest
import torch

from mmplugins.hosts import problem_with

if problem := problem_with('mmdet'):
    pytest.skip(f'mmdet is needed: {problem}', allow_module_level=True)

from tests.models.mask_models import small_head


def assert_uniform(weight, bound, name):
    """Within the bound, close to it, and with the deviation of a uniform distribution."""
    assert weight.abs().max() <= bound, name
    assert weight.abs().max() > 0.9 * bound, name
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.25), name


@pytest.mark.parametrize('semantic', [False, True])
def test_mask2former(semantic):
    """Xavier's uniform bound: sqrt(6 / (inputs + outputs))."""
    head = small_head('Mask2Former', semantic=semantic)
    torch.manual_seed(0)
    head.init_weights()
    seen = 0
    for part in (head.transformer_decoder, head.pixel_decoder.encoder):
        for name, weight in part.named_parameters():
            if weight.dim() > 1 and not any(x in name for x in ('sampling_offsets', 'attention_weights')):
                assert_uniform(weight, math.sqrt(6 / sum(weight.shape)), name)
                seen += 1
    assert seen >= 12
    deformable = head.pixel_decoder.encoder.layers[0].self_attn
    assert (deformable.sampling_offsets.weight == 0).all()
    assert (deformable.attention_weights.weight == 0).all()
    offsets = deformable.sampling_offsets.bias.view(2, 3, 2, 2)  # heads, levels, points: the first points lie 1 off
    torch.testing.assert_close(offsets[:, :, 0].abs().amax(-1), torch.ones(2, 3))
    torch.testing.assert_close(offsets[:, :, 1], 2 * offsets[:, :, 0])


@pytest.mark.parametrize('semantic', [False, True])
def test_maskformer(semantic):
    """Caffe2's Xavier fill: uniform within sqrt(3 / inputs) at every level."""
    head = small_head('MaskFormer', semantic=semantic)
    torch.manual_seed(0)
    head.init_weights()
    decoder = head.pixel_decoder
    convs = [conv.conv for convs in (decoder.lateral_convs, decoder.output_convs) for conv in convs]
    for index, conv in enumerate([*convs, decoder.last_feat_conv.conv, decoder.mask_feature]):
        assert_uniform(conv.weight, math.sqrt(3 / conv.weight[0].numel()), index)
