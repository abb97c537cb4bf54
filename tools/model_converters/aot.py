"""AOT's released checkpoints to ours (configs/_base_/models/aot_*), and back with --reverse.

python tools/model_converters/aot.py AOTT_PRE_YTB_DAV.pth aot_t.pth
python tools/model_converters/aot.py --reverse work_dirs/aot_t/iter_100000.pth AOTT.pth

All models: T, S, B, L on MobileNetV2, L on ResNet-50 and on Swin-B. Which one a file holds is read from its names. The
released file keeps the state dict under ``state_dict``, as ours does. Images are RGB in both.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmplugins.conversion.convert import (
    CONV,
    WEIGHT,
    ConversionError,
    key_table,
    read_file,
    read_tensors,
    rename_tensors,
    rule,
    write_checkpoint,
)

AFFINE = ('weight', 'bias')
FROZEN_NORM = ('weight', 'bias', 'running_mean', 'running_var')  # the released frozen batch norm counts nothing
LEVELS = {'16x': 2, '8x': 1, '4x': 0}
BACKBONE = 'network.encoder.backbone'

MOBILENET_BLOCKS = (1, 2, 3, 4, 3, 3, 1)  # of each stage; the released code numbers them through, from 1
RESNET_BLOCKS = {1: 3, 2: 4, 3: 6}
SWIN_BLOCKS = {0: 2, 1: 2, 2: 18}


def _mobilenet_v2() -> list:
    rules = []
    for theirs, ours in (('0', 'conv1'), ('18', 'conv2')):
        rules += [
            rule(f'encoder.features.{theirs}.0', f'{BACKBONE}.{ours}.conv', WEIGHT),
            rule(f'encoder.features.{theirs}.1', f'{BACKBONE}.{ours}.bn', FROZEN_NORM),
        ]
    number = 0
    for stage, blocks in enumerate(MOBILENET_BLOCKS, 1):
        for block in range(blocks):
            number += 1
            theirs, ours = f'encoder.features.{number}.conv', f'{BACKBONE}.layer{stage}.{block}.conv'
            last = 1 if number == 1 else 2  # the first block does not expand
            rules += [
                rule(f'{theirs}.{{i}}.0', f'{ours}.{{i}}.conv', WEIGHT, i=range(last)),
                rule(f'{theirs}.{{i}}.1', f'{ours}.{{i}}.bn', FROZEN_NORM, i=range(last)),
                rule(f'{theirs}.{last}', f'{ours}.{last}.conv', WEIGHT),
                rule(f'{theirs}.{last + 1}', f'{ours}.{last}.bn', FROZEN_NORM),
            ]
    return rules


def _resnet50() -> list:
    rules = [
        rule('encoder.conv1', f'{BACKBONE}.conv1', WEIGHT),
        rule('encoder.bn1', f'{BACKBONE}.bn1', FROZEN_NORM),
    ]
    for stage, blocks in RESNET_BLOCKS.items():
        theirs, ours = f'encoder.layer{stage}', f'{BACKBONE}.layer{stage}'
        rules += [
            rule(f'{theirs}.{{b}}.conv{{i}}', f'{ours}.{{b}}.conv{{i}}', WEIGHT, b=range(blocks), i=(1, 2, 3)),
            rule(f'{theirs}.{{b}}.bn{{i}}', f'{ours}.{{b}}.bn{{i}}', FROZEN_NORM, b=range(blocks), i=(1, 2, 3)),
            rule(f'{theirs}.0.downsample.0', f'{ours}.0.downsample.0', WEIGHT),
            rule(f'{theirs}.0.downsample.1', f'{ours}.0.downsample.1', FROZEN_NORM),
        ]
    return rules


def _swin_b() -> list:
    attention = ('relative_position_bias_table', 'relative_position_index')
    rules = [
        rule('encoder.patch_embed.proj', f'{BACKBONE}.patch_embed.projection', CONV),
        rule('encoder.patch_embed.norm', f'{BACKBONE}.patch_embed.norm', AFFINE),
        rule('encoder.norm{s}', f'{BACKBONE}.norm{{s}}', AFFINE, s=range(3)),
        rule(
            'encoder.layers.{s}.downsample.reduction', f'{BACKBONE}.stages.{{s}}.downsample.reduction', WEIGHT, s=(0, 1)
        ),
        rule('encoder.layers.{s}.downsample.norm', f'{BACKBONE}.stages.{{s}}.downsample.norm', AFFINE, s=(0, 1)),
    ]
    for stage, blocks in SWIN_BLOCKS.items():
        theirs, ours = f'encoder.layers.{stage}.blocks.{{b}}', f'{BACKBONE}.stages.{stage}.blocks.{{b}}'
        every = dict(b=range(blocks))
        rules += [
            rule(f'{theirs}.norm{{i}}', f'{ours}.norm{{i}}', AFFINE, **every, i=(1, 2)),
            rule(f'{theirs}.attn', f'{ours}.attn.w_msa', attention, **every),
            rule(f'{theirs}.attn.{{l}}', f'{ours}.attn.w_msa.{{l}}', CONV, **every, l=('qkv', 'proj')),
            rule(f'{theirs}.mlp.fc1', f'{ours}.ffn.layers.0.0', CONV, **every),
            rule(f'{theirs}.mlp.fc2', f'{ours}.ffn.layers.1', CONV, **every),
        ]
    return rules


def _lstt(num_blocks: int) -> list:
    theirs, ours, every = 'LSTT.layers.{b}', 'network.lstt.blocks.{b}', dict(b=range(num_blocks))
    norms = {'norm1': 'self_norm', 'norm2': 'memory_norm', 'norm3': 'feedforward_norm'}
    attentions = {'self_attn': 'self_attention', 'long_term_attn': 'long_term_attention'}
    attentions['short_term_attn'] = 'short_term_attention'
    projections = {'linear_Q': 'query', 'linear_K': 'key', 'linear_V': 'value'}
    return [
        rule('LSTT.mask_token', 'network.lstt.mask_token'),
        rule('LSTT.decoder_norms.{b}', 'network.lstt.norms.{b}', AFFINE, **every),
        rule(f'{theirs}.{{n}}', f'{ours}.{{n}}', AFFINE, **every, n=norms),
        rule(f'{theirs}.{{a}}.projection', f'{ours}.{{a}}.projection', CONV, **every, a=attentions),
        rule(f'{theirs}.self_attn.{{p}}', f'{ours}.self_attention.{{p}}', CONV, **every, p=projections),
        rule(f'{theirs}.linear_Q', f'{ours}.query_key', CONV, **every),
        rule(f'{theirs}.linear_V', f'{ours}.value', CONV, **every),
        rule(f'{theirs}.short_term_attn.relative_emb_k', f'{ours}.short_term_attention.relative_key', CONV, **every),
        rule(f'{theirs}.short_term_attn.relative_emb_v', f'{ours}.short_term_attention.relative_value', **every),
        rule(f'{theirs}.linear1', f'{ours}.feedforward.expand', CONV, **every),
        rule(f'{theirs}.activation.gn', f'{ours}.feedforward.norm', AFFINE, **every),
        rule(f'{theirs}.activation.conv', f'{ours}.feedforward.depthwise', WEIGHT, **every),
        rule(f'{theirs}.linear2', f'{ours}.feedforward.reduce', CONV, **every),
    ]


def _decoder(theirs: str, ours: str) -> list:
    return [
        rule(f'{theirs}conv_in.conv', f'{ours}reduce.conv', CONV),
        rule(f'{theirs}conv_in.gn', f'{ours}reduce.gn', AFFINE),
        rule(f'{theirs}conv_{{l}}.conv', f'{ours}fuse.{{l}}.conv', CONV, l=LEVELS),
        rule(f'{theirs}conv_{{l}}.gn', f'{ours}fuse.{{l}}.gn', AFFINE, l=LEVELS),
        rule(f'{theirs}adapter_{{l}}', f'{ours}shortcuts.{{l}}', CONV, l=LEVELS),
        rule(f'{theirs}conv_out', f'{ours}out', CONV),
    ]


# A name that only this backbone has, in the released checkpoint and in ours; and its rules.
BACKBONES = {
    'MobileNetV2': ('encoder.features.0.0.weight', f'{BACKBONE}.conv2.conv.weight', _mobilenet_v2),
    'ResNet-50': ('encoder.layer1.0.conv1.weight', f'{BACKBONE}.layer1.0.conv1.weight', _resnet50),
    'Swin-B': ('encoder.patch_embed.proj.weight', f'{BACKBONE}.patch_embed.projection.weight', _swin_b),
}


def decoder_table() -> dict[str, str]:
    """Gives the names of the decoder alone: ours of each released one."""
    return key_table(*_decoder('', ''))


def aot_table(backbone: str, num_blocks: int) -> dict[str, str]:
    """Gives the names of a model: ours of each released one.

    Args:
        backbone: A key of ``BACKBONES``.
        num_blocks: Blocks of the transformer.
    """
    return key_table(
        *BACKBONES[backbone][2](),
        rule('encoder_projector', 'network.encoder.projector', CONV),
        *_lstt(num_blocks),
        *_decoder('decoder.', 'network.decoder.'),
        rule('patch_wise_id_bank', 'network.identity_bank.conv', CONV),
    )


def table_of(names: Iterable[str], reverse: bool = False) -> dict[str, str]:
    """Finds the table of the model that has these names.

    Args:
        names: Names in a state dict.
        reverse: Whether they are ours.

    Raises:
        ConversionError: There is no backbone that is known.
    """
    names = set(names)
    found = [backbone for backbone, keys in BACKBONES.items() if keys[reverse] in names]
    if len(found) != 1:
        whose = 'ours, which --reverse takes' if reverse else 'the released AOT'
        wanted = ', '.join(keys[reverse] for keys in BACKBONES.values())
        raise ConversionError(f'the checkpoint is not of {whose}: it has none of {wanted}')
    block = 'network.lstt.blocks.{}.query_key.weight' if reverse else 'LSTT.layers.{}.linear_Q.weight'
    num_blocks = 0
    while block.format(num_blocks) in names:
        num_blocks += 1
    return aot_table(found[0], num_blocks)


def to_ours(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts a released state dict; see ``rename_tensors`` for what it raises."""
    state = rename_tensors(released, table_of(released))
    for name in [name for name in state if name.endswith('.running_var')]:
        state[name.replace('running_var', 'num_batches_tracked')] = torch.zeros((), dtype=torch.int64)
    return {name: _reorder_merging(name, tensor, False) for name, tensor in state.items()}


def to_released(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts a state dict of ours back."""
    state = {name: tensor for name, tensor in ours.items() if not name.endswith('.num_batches_tracked')}
    state = {name: _reorder_merging(name, tensor, True) for name, tensor in state.items()}
    return rename_tensors(state, table_of(state, reverse=True), reverse=True)


def _reorder_merging(name: str, tensor: Tensor, reverse: bool) -> Tensor:
    """Reorders what Swin's patch merging takes.

    The released code concatenates the four neighbours in the order upper left, lower left, upper right, lower right,
    channels running fastest; mmseg unfolds them row by row, neighbours running fastest.
    """
    if '.downsample.' not in name or '.stages.' not in name:
        return tensor
    if reverse:
        return tensor.unflatten(-1, (-1, 4)).mT[..., [0, 2, 1, 3], :].flatten(-2)
    return tensor.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :].mT.flatten(-2)


def read_checkpoint(path: str | Path, raw: bool = False) -> dict[str, Tensor]:
    """Reads the weights of a checkpoint, released or ours.

    Args:
        path: The file.
        raw: Of a run with mmengine's EMAHook, whose ``state_dict`` holds the averaged weights: those that the optimizer
            steps, which the hook stores beside them.

    Raises:
        ConversionError: ``raw`` is asked of a checkpoint without them.
    """
    if not raw:
        return read_tensors(path)
    checkpoint = read_file(path)
    if 'ema_state_dict' not in checkpoint:
        raise ConversionError('there is no ema_state_dict in it; without an EMAHook there is but one set of weights')
    state = {name.removeprefix('module.'): tensor for name, tensor in checkpoint['ema_state_dict'].items()}
    state.pop('steps', None)
    return state


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', metavar='SRC', help='checkpoint to read')
    parser.add_argument('dst', metavar='DST', help='file to write')
    parser.add_argument('--reverse', action='store_true', help='from ours to the released names')
    parser.add_argument('--raw', action='store_true', help='with --reverse: not the averaged (EMA) weights')
    args = parser.parse_args(argv)
    try:
        state = read_checkpoint(args.src, args.raw)
        state = to_released(state) if args.reverse else to_ours(state)
    except (ConversionError, FileNotFoundError) as error:
        sys.exit(f'{parser.prog}: error: {args.src}: {error}')
    checkpoint = {'state_dict': state} if args.reverse else {'state_dict': state, 'meta': {}}
    write_checkpoint(checkpoint, args.dst, parser.prog)
    print(f'{len(state)} tensors written to {args.dst}')


if __name__ == '__main__':
    main()
