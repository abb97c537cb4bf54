"""MaskFormer's released checkpoints (ResNet-50, -101) to ours, and back.

python tools/model_converters/maskformer.py model_final_6f60dc.pkl maskformer_r50_coco-panoptic.pth
python tools/model_converters/maskformer.py --reverse work_dirs/maskformer_r50/epoch_75.pth maskformer.pth

Ours is mmdetection's MaskFormer of configs/maskformer/, or with --semantic mmsegmentation's EncoderDecoder. The names
tell the pixel decoder: one with six encoder layers (COCO panoptic), or a feature pyramid alone (ADE20K). Files,
colours, classes, ``criterion.empty_weight`` and counters are as in mask2former.py.
"""

from collections.abc import Mapping

from mmplugins.conversion.convert import CONV, WEIGHT, rule
from mmplugins.conversion.detectron2 import MaskConverter

LAYERS = range(6)
ATTENTION = ('in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias')
LEVELS = {1: 0, 2: 1, 3: 2}  # strides 4, 8, 16; the deepest one enters the encoder


def _transformer(theirs: str, ours: str, attentions: Mapping[str, str]) -> list:
    layer, own = f'{theirs}.layers.{{l}}', f'{ours}.layers.{{l}}'
    norms = {i + 1: i for i in range(1 + len(attentions))}  # the last one follows the feed-forward network
    return [
        rule(f'{layer}.{{a}}', f'{own}.{{a}}.attn', ATTENTION, l=LAYERS, a=attentions),
        rule(f'{layer}.linear1', f'{own}.ffn.layers.0.0', CONV, l=LAYERS),
        rule(f'{layer}.linear2', f'{own}.ffn.layers.1', CONV, l=LAYERS),
        rule(f'{layer}.norm{{i}}', f'{own}.norms.{{i}}', CONV, l=LAYERS, i=norms),
    ]


def _pyramid(theirs: str, ours: str) -> list:
    return [
        rule(f'{theirs}.adapter_{{i}}', f'{ours}.lateral_convs.{{i}}.conv', WEIGHT, i=LEVELS),
        rule(f'{theirs}.adapter_{{i}}.norm', f'{ours}.lateral_convs.{{i}}.gn', CONV, i=LEVELS),
        rule(f'{theirs}.layer_{{i}}', f'{ours}.output_convs.{{i}}.conv', WEIGHT, i=LEVELS),
        rule(f'{theirs}.layer_{{i}}.norm', f'{ours}.output_convs.{{i}}.gn', CONV, i=LEVELS),
        rule(f'{theirs}.mask_features', f'{ours}.mask_feature', CONV),
    ]


def _deepest(theirs: str, ours: str) -> list:
    return [rule(theirs, f'{ours}.conv', WEIGHT), rule(f'{theirs}.norm', f'{ours}.gn', CONV)]


def _predictor(theirs: str, ours: str) -> list:
    attentions = {'self_attn': 'self_attn', 'multihead_attn': 'cross_attn'}
    decoder = f'{theirs}.transformer.decoder'
    return [
        *_transformer(decoder, f'{ours}.transformer_decoder', attentions),
        rule(f'{decoder}.norm', f'{ours}.transformer_decoder.post_norm', CONV),
        rule(f'{theirs}.query_embed', f'{ours}.query_embed', WEIGHT),
        rule(f'{theirs}.class_embed', f'{ours}.cls_embed', CONV),
        rule(f'{theirs}.mask_embed.layers.{{i}}', f'{ours}.mask_embed.{{i}}', CONV, i={0: 0, 1: 2, 2: 4}),
    ]


def _head(name: str) -> list:
    theirs, ours = 'sem_seg_head.pixel_decoder', f'{name}.pixel_decoder'
    return [
        *_pyramid(theirs, ours),
        rule(f'{theirs}.input_proj', f'{ours}.encoder_in_proj', CONV),
        *_transformer(f'{theirs}.transformer.encoder', f'{ours}.encoder', {'self_attn': 'self_attn'}),
        *_deepest(f'{theirs}.layer_4', f'{ours}.encoder_out_proj'),
        *_predictor('sem_seg_head.predictor', name),
    ]


def _head_without_encoder(name: str) -> list:
    theirs, ours = 'sem_seg_head.pixel_decoder', f'{name}.pixel_decoder'
    return [
        *_pyramid(theirs, ours),
        *_deepest(f'{theirs}.layer_4', f'{ours}.last_feat_conv'),
        rule('sem_seg_head.predictor.input_proj', f'{name}.decoder_input_proj', CONV),
        *_predictor('sem_seg_head.predictor', name),
    ]


convert = MaskConverter(_head, dict.fromkeys(('predictor.input_proj.', '.decoder_input_proj.'), _head_without_encoder))


if __name__ == '__main__':
    convert.run(__doc__)
