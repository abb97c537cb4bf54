import pytest
import torch

from tests.locations import golden_files
from tests.tools.mask_converter_contract import MaskConverterContract, check_command_line, released_state
from tools.model_converters.mask2former import convert

LISTS = golden_files('mask2former_r50_*_state_shapes.json')


def test_there_are_lists():
    tasks = {'coco_instance', 'coco_panoptic', 'ade20k_semantic'}
    assert {param.id for param in LISTS} >= {f'mask2former_r50_{task}_state_shapes' for task in tasks}


@pytest.mark.parametrize('path', LISTS)
class TestMask2Former(MaskConverterContract):
    convert = staticmethod(convert)
    tensors = 558
    config = 'mask2former_r50.py'


def test_some_names():
    table = convert.table({})
    for released, ours in {
        'backbone.res4.5.conv2.norm.running_var': 'backbone.layer3.5.bn2.running_var',
        # the coarsest level first, on both sides
        'sem_seg_head.pixel_decoder.input_proj.0.0.weight': 'panoptic_head.pixel_decoder.input_convs.0.conv.weight',
        'sem_seg_head.pixel_decoder.transformer.encoder.layers.5.self_attn.sampling_offsets.bias': (
            'panoptic_head.pixel_decoder.encoder.layers.5.self_attn.sampling_offsets.bias'
        ),
        # the cross attention comes first in a layer
        'sem_seg_head.predictor.transformer_cross_attention_layers.8.norm.bias': (
            'panoptic_head.transformer_decoder.layers.8.norms.0.bias'
        ),
        'sem_seg_head.predictor.transformer_self_attention_layers.8.norm.bias': (
            'panoptic_head.transformer_decoder.layers.8.norms.1.bias'
        ),
        'sem_seg_head.predictor.transformer_ffn_layers.0.linear2.weight': (
            'panoptic_head.transformer_decoder.layers.0.ffn.layers.1.weight'
        ),
        'sem_seg_head.predictor.mask_embed.layers.2.weight': 'panoptic_head.mask_embed.4.weight',
    }.items():
        assert table[released] == ours


def test_levels_are_not_swapped():
    released = released_state(LISTS[0].values[0])
    ours = convert(released)
    assert ours['panoptic_head.pixel_decoder.input_convs.0.conv.weight'].shape[1] == 2048
    for name, own in (
        ('pixel_decoder.transformer.level_embed', 'pixel_decoder.level_encoding.weight'),
        ('predictor.level_embed.weight', 'level_embed.weight'),
    ):
        assert torch.equal(ours[f'panoptic_head.{own}'], released[f'sem_seg_head.{name}'])


def test_command_line(tmp_path):
    check_command_line('tools/model_converters/mask2former.py', 610, LISTS[0].values[0], tmp_path)
