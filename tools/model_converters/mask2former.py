"""Mask2Former's released checkpoints (ResNet-50 and -101) to ours (configs/mask2former/), and back with --reverse.

python tools/model_converters/mask2former.py model_final_3c8ec9.pkl mask2former_r50_coco-instance.pth
python tools/model_converters/mask2former.py model_final_500878.pkl mask2former_r50_ade20k.pth --semantic
python tools/model_converters/mask2former.py --reverse work_dirs/mask2former_r50/iter_368750.pth mask2former.pth

Released files are pickles of numpy arrays, or keep the tensors under ``model``; ours are under ``state_dict``. Images
are RGB in both, and the classes of COCO (things, then stuff), ADE20K and Cityscapes have the same order. Both number
the levels that enter the transformers from the coarsest, and lay out the fused attention weights and the sampling
offsets alike. With --semantic, ours is mmsegmentation's EncoderDecoder instead of mmdetection's Mask2Former; on the
way back the names tell which of the two it is.

Released tensors that ours lacks: ``criterion.empty_weight``, the class weights of the loss, which are a setting of
``loss_cls`` in ours; on the way back they are 1 and, for no-object, 0.1. The released batch norms count no batches;
ours have a counter, which is 0.
"""

from mmplugins.conversion.convert import CONV, WEIGHT, rule
from mmplugins.conversion.detectron2 import MaskConverter

ENCODER_LAYERS, DECODER_LAYERS = range(6), range(9)
DEFORMABLE = ('sampling_offsets', 'attention_weights', 'value_proj', 'output_proj')
ATTENTION = ('in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias')
# A decoder layer's attentions and feed-forward network with their norms: kind, name there, ours, norm
DECODER_PARTS = (
    ('cross_attention', 'multihead_attn', 'cross_attn', 0),
    ('self_attention', 'self_attn', 'self_attn', 1),
)


def _pixel_decoder(theirs: str, ours: str) -> list:
    layer, own = f'{theirs}.transformer.encoder.layers.{{l}}', f'{ours}.encoder.layers.{{l}}'
    return [
        rule(f'{theirs}.input_proj.{{i}}.0', f'{ours}.input_convs.{{i}}.conv', CONV, i=range(3)),
        rule(f'{theirs}.input_proj.{{i}}.1', f'{ours}.input_convs.{{i}}.gn', CONV, i=range(3)),
        rule(f'{theirs}.transformer.level_embed', f'{ours}.level_encoding.weight'),
        rule(f'{layer}.self_attn.{{a}}', f'{own}.self_attn.{{a}}', CONV, l=ENCODER_LAYERS, a=DEFORMABLE),
        rule(f'{layer}.norm{{i}}', f'{own}.norms.{{i}}', CONV, l=ENCODER_LAYERS, i={1: 0, 2: 1}),
        rule(f'{layer}.linear1', f'{own}.ffn.layers.0.0', CONV, l=ENCODER_LAYERS),
        rule(f'{layer}.linear2', f'{own}.ffn.layers.1', CONV, l=ENCODER_LAYERS),
        rule(f'{theirs}.adapter_1', f'{ours}.lateral_convs.0.conv', WEIGHT),
        rule(f'{theirs}.adapter_1.norm', f'{ours}.lateral_convs.0.gn', CONV),
        rule(f'{theirs}.layer_1', f'{ours}.output_convs.0.conv', WEIGHT),
        rule(f'{theirs}.layer_1.norm', f'{ours}.output_convs.0.gn', CONV),
        rule(f'{theirs}.mask_features', f'{ours}.mask_feature', CONV),
    ]


def _transformer_decoder(theirs: str, ours: str) -> list:
    own, rules = f'{ours}.transformer_decoder.layers.{{l}}', []
    for kind, attention, name, norm in DECODER_PARTS:
        layer = f'{theirs}.transformer_{kind}_layers.{{l}}'
        rules += [
            rule(f'{layer}.{attention}', f'{own}.{name}.attn', ATTENTION, l=DECODER_LAYERS),
            rule(f'{layer}.norm', f'{own}.norms.{norm}', CONV, l=DECODER_LAYERS),
        ]
    layer = f'{theirs}.transformer_ffn_layers.{{l}}'
    return [
        *rules,
        rule(f'{layer}.linear1', f'{own}.ffn.layers.0.0', CONV, l=DECODER_LAYERS),
        rule(f'{layer}.linear2', f'{own}.ffn.layers.1', CONV, l=DECODER_LAYERS),
        rule(f'{layer}.norm', f'{own}.norms.2', CONV, l=DECODER_LAYERS),
        rule(f'{theirs}.decoder_norm', f'{ours}.transformer_decoder.post_norm', CONV),
        rule(f'{theirs}.{{e}}', f'{ours}.{{e}}', WEIGHT, e=('query_feat', 'query_embed', 'level_embed')),
        rule(f'{theirs}.class_embed', f'{ours}.cls_embed', CONV),
        rule(f'{theirs}.mask_embed.layers.{{i}}', f'{ours}.mask_embed.{{i}}', CONV, i={0: 0, 1: 2, 2: 4}),
    ]


def _head(name: str) -> list:
    return [
        *_pixel_decoder('sem_seg_head.pixel_decoder', f'{name}.pixel_decoder'),
        *_transformer_decoder('sem_seg_head.predictor', name),
    ]


convert = MaskConverter(_head)


if __name__ == '__main__':
    convert.run(__doc__)
