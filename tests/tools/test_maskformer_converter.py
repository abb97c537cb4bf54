import pytest
import torch

from tests.locations import golden_files
from tests.tools.mask_converter_contract import MaskConverterContract, build_model, check_command_line
from tools.model_converters.maskformer import convert

LISTS = golden_files('maskformer_r50_*_state_shapes.json')


def test_there_are_lists():
    assert {param.id for param in LISTS} >= {'maskformer_r50_coco_panoptic_state_shapes'}


@pytest.mark.parametrize('path', LISTS)
class TestMaskFormer(MaskConverterContract):
    convert = staticmethod(convert)
    tensors = 482
    config = 'maskformer_r50.py'


def test_some_names():
    table = convert.table({}, semantic=True)
    for released, ours in {
        'sem_seg_head.pixel_decoder.adapter_3.weight': 'decode_head.pixel_decoder.lateral_convs.2.conv.weight',
        'sem_seg_head.pixel_decoder.layer_4.norm.bias': 'decode_head.pixel_decoder.encoder_out_proj.gn.bias',
        'sem_seg_head.pixel_decoder.transformer.encoder.layers.3.norm2.weight': (
            'decode_head.pixel_decoder.encoder.layers.3.norms.1.weight'
        ),
        'sem_seg_head.predictor.transformer.decoder.layers.0.multihead_attn.in_proj_weight': (
            'decode_head.transformer_decoder.layers.0.cross_attn.attn.in_proj_weight'
        ),
        'sem_seg_head.predictor.transformer.decoder.layers.5.norm3.weight': (
            'decode_head.transformer_decoder.layers.5.norms.2.weight'
        ),
    }.items():
        assert table[released] == ours


def test_a_feature_pyramid_without_encoder():
    """That of the released ADE20K models, whose names and shapes are those of BasePixelDecoder and of input_proj.

    There is no list of a released checkpoint in the goldens; these come from reading the released modules.
    """
    pytest.importorskip('mmseg', reason='ours is an EncoderDecoder')
    pytest.importorskip('mmdet', reason="the head is mmdet's")
    state = build_model('maskformer_r50_seg.py', 'mmseg', 150).state_dict()
    released = convert(state, reverse=True)
    head = 'sem_seg_head.pixel_decoder.'
    convs = [f'{kind}_{level}' for kind in ('adapter', 'layer') for level in (1, 2, 3)] + ['layer_4']
    expected = {f'{head}{conv}.{name}' for conv in convs for name in ('weight', 'norm.weight', 'norm.bias')}
    expected |= {f'{head}mask_features.{name}' for name in ('weight', 'bias')}
    assert {name for name in released if name.startswith(head)} == expected
    assert released[f'{head}layer_4.weight'].shape == (256, 2048, 3, 3)
    assert released['sem_seg_head.predictor.input_proj.weight'].shape == (256, 2048, 1, 1)
    back = convert(released, semantic=True)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state if not name.endswith('num_batches_tracked'))


def test_command_line(tmp_path):
    check_command_line('tools/model_converters/maskformer.py', 534, LISTS[0].values[0], tmp_path)
