"""DETR's released checkpoints (ResNet-50 and -101, DC5 or not) to ours (configs/detr/), and back with --reverse.

python tools/model_converters/detr.py detr-r50-e632da11.pth detr_r50.pth --coco
python tools/model_converters/detr.py --reverse --coco work_dirs/detr_r50/epoch_150.pth detr-r50.pth

The released files keep the tensors under ``model``, ours under ``state_dict``. Images are RGB in both, and the order
of the box coordinates (cx, cy, w, h) and of the fused attention weights is the same.

The released classifier has 92 outputs: COCO's category ids 0 to 90, 11 of which no category has, and no-object. All
of them are kept unless --coco is given, so that nothing is lost on the way there and back; the model is then one of 91
classes (model.bbox_head.num_classes=91), whose labels are category ids. With --coco the outputs of the 80 categories
are kept, in the order of the ids, which is mmdet's order of COCO's classes, and no-object: this is what the configs
and mmdet's data sets and metrics need. On the way back an id without a category never wins: its weights are 0 and its
bias is -1e4.

The released batch norms are frozen and count no batches; ours have a counter, which is 0.
"""

from argparse import Namespace
from collections.abc import Iterable, Mapping

from torch import Tensor

from mmplugins.conversion.convert import (
    CONV,
    FROZEN_NORM,
    WEIGHT,
    Selection,
    batch_counters,
    key_table,
    rename_tensors,
    rule,
    run_converter,
)

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # of each ResNet, by stage
LAYERS = range(6)
ATTENTION = ('in_proj_weight', 'in_proj_bias', 'out_proj.weight', 'out_proj.bias')
# The released code numbers a layer's norms from 1; the last of a decoder layer follows its feed-forward network.
NORMS = {1: 0, 2: 1, 3: 2}
# Ids that COCO's list has, and no category of its detection task; 0 is none either, and 91 is no-object.
UNUSED_IDS = {0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
CLASS_OUTPUTS = 92
KEPT_OUTPUTS = [i for i in range(CLASS_OUTPUTS) if i not in UNUSED_IDS]


def _stage(number: int, blocks: int) -> list:
    theirs, ours = f'backbone.0.body.layer{number}', f'backbone.layer{number}'
    values = {'b': range(blocks), 'i': (1, 2, 3)}
    return [
        rule(f'{theirs}.{{b}}.conv{{i}}', f'{ours}.{{b}}.conv{{i}}', WEIGHT, **values),
        rule(f'{theirs}.{{b}}.bn{{i}}', f'{ours}.{{b}}.bn{{i}}', FROZEN_NORM, **values),
        rule(f'{theirs}.0.downsample.0', f'{ours}.0.downsample.0', WEIGHT),
        rule(f'{theirs}.0.downsample.1', f'{ours}.0.downsample.1', FROZEN_NORM),
    ]


def _transformer(part: str, attentions: Mapping[str, str]) -> list:
    theirs, ours = f'transformer.{part}.layers.{{l}}', f'{part}.layers.{{l}}'
    norms = {i: NORMS[i] for i in list(NORMS)[: 1 + len(attentions)]}
    return [
        rule(f'{theirs}.{{a}}', f'{ours}.{{a}}.attn', ATTENTION, l=LAYERS, a=attentions),
        rule(f'{theirs}.linear1', f'{ours}.ffn.layers.0.0', CONV, l=LAYERS),
        rule(f'{theirs}.linear2', f'{ours}.ffn.layers.1', CONV, l=LAYERS),
        rule(f'{theirs}.norm{{i}}', f'{ours}.norms.{{i}}', CONV, l=LAYERS, i=norms),
    ]


def _table(depth: int) -> dict[str, str]:
    return key_table(
        rule('backbone.0.body.conv1', 'backbone.conv1', WEIGHT),
        rule('backbone.0.body.bn1', 'backbone.bn1', FROZEN_NORM),
        *(pairs for i, blocks in enumerate(BLOCKS[depth], start=1) for pairs in _stage(i, blocks)),
        rule('input_proj', 'neck.convs.0.conv', CONV),
        *_transformer('encoder', {'self_attn': 'self_attn'}),
        *_transformer('decoder', {'self_attn': 'self_attn', 'multihead_attn': 'cross_attn'}),
        rule('transformer.decoder.norm', 'decoder.post_norm', CONV),
        rule('query_embed', 'query_embedding', WEIGHT),
        rule('class_embed', 'bbox_head.fc_cls', CONV),
        rule(
            'bbox_embed.layers.{i}',
            'bbox_head.{i}',
            CONV,
            i={0: 'reg_ffn.layers.0.0', 1: 'reg_ffn.layers.1', 2: 'fc_reg'},
        ),
    )


TABLES = {depth: _table(depth) for depth in BLOCKS}  # our name of each released name, by the ResNet's depth
COCO = {
    'bbox_head.fc_cls.weight': Selection(KEPT_OUTPUTS, CLASS_OUTPUTS),
    'bbox_head.fc_cls.bias': Selection(KEPT_OUTPUTS, CLASS_OUTPUTS, fill=-1e4),
}


def counters(depth: int) -> dict[str, Tensor]:
    """Our batch norms' counters, which the released model lacks, by name."""
    return batch_counters(TABLES[depth])


def depth_of(names: Iterable[str]) -> int:
    """Depth of the ResNet that tensors of these names, released or ours, come from."""
    return 101 if any('layer3.22.' in name for name in names) else 50


def convert(state: Mapping[str, Tensor], reverse: bool = False, coco: bool = False) -> dict[str, Tensor]:
    """Converts a state dict.

    Args:
        state: Tensors by their released names, or, in reverse, by ours.
        reverse: From ours to the released ones.
        coco: Ours has the outputs of COCO's 80 categories and no-object, instead of all 92.

    Returns:
        The tensors by their new names.

    Raises:
        ConversionError: Tensors are unknown or missing, or the classifier has another number of outputs.
    """
    depth = depth_of(state)
    return rename_tensors(state, TABLES[depth], reverse, counters(depth), COCO if coco else None)


def _convert_arguments(state: Mapping[str, Tensor], args: Namespace) -> dict[str, Tensor]:
    return convert(state, args.reverse, args.coco)


if __name__ == '__main__':
    run_converter(
        _convert_arguments,
        __doc__,
        flags={'--coco': "ours has the classes of mmdet's COCO data set: 80 instead of 91 category ids"},
        released_key='model',
    )
