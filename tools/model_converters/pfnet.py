"""PFNet's released checkpoint to ours (configs/pfnet/pfnet_r50_*), and back with --reverse.

python tools/model_converters/pfnet.py PFNet.pth pfnet_r50.pth
python tools/model_converters/pfnet.py --reverse work_dirs/pfnet_r50/epoch_45.pth PFNet.pth

The released file is the state dict itself, ours has it under ``state_dict``. Images are RGB in both.
"""

from mmplugins.conversion.convert import CONV, NORM, WEIGHT, key_table, rule, run_converter

BLOCKS = {1: 3, 2: 4, 3: 6, 4: 3}  # of ResNet-50
RELEASED_STAGE = {1: 'layer1.1', 2: 'layer2', 3: 'layer3', 4: 'layer4'}
LEVELS = {3: 2, 2: 1, 1: 0}  # focus3, the deepest, is our focus.2
BRANCHES = {1: 0, 2: 1, 3: 2, 4: 3}
CONTEXTS = {'fp': 'foreground', 'fn': 'background'}


def _stage(stage: int) -> list:
    theirs, ours, blocks = RELEASED_STAGE[stage], f'backbone.layer{stage}', range(BLOCKS[stage])
    return [
        rule(f'{theirs}.{{b}}.conv{{i}}', f'{ours}.{{b}}.conv{{i}}', WEIGHT, b=blocks, i=(1, 2, 3)),
        rule(f'{theirs}.{{b}}.bn{{i}}', f'{ours}.{{b}}.bn{{i}}', NORM, b=blocks, i=(1, 2, 3)),
        rule(f'{theirs}.0.downsample.0', f'{ours}.0.downsample.0', WEIGHT),
        rule(f'{theirs}.0.downsample.1', f'{ours}.0.downsample.1', NORM),
    ]


def _context(theirs: str, ours: str) -> list:
    """Rules of a convolution (0) and its normalisation (1) in the context exploration blocks."""
    values = {'l': LEVELS, 'c': CONTEXTS} | ({'i': BRANCHES} if '{i}' in theirs else {})
    theirs, ours = f'focus{{l}}.{{c}}.{theirs}', f'decode_head.focus.{{l}}.{{c}}.{ours}'
    return [rule(f'{theirs}.0', f'{ours}.0', CONV, **values), rule(f'{theirs}.1', f'{ours}.1', NORM, **values)]


HEAD = 'decode_head'
TABLE = key_table(
    rule('layer0.0', 'backbone.conv1', WEIGHT),
    rule('layer0.1', 'backbone.bn1', NORM),
    *_stage(1),
    *_stage(2),
    *_stage(3),
    *_stage(4),
    rule('cr{s}.0', f'{HEAD}.reduce.{{s}}.0', CONV, s=BRANCHES),
    rule('cr{s}.1', f'{HEAD}.reduce.{{s}}.1', NORM, s=BRANCHES),
    rule('positioning.cab.gamma', f'{HEAD}.positioning.channel_gamma'),
    rule('positioning.sab.gamma', f'{HEAD}.positioning.spatial_gamma'),
    rule('positioning.sab.{p}_conv', f'{HEAD}.positioning.{{p}}', CONV, p=('query', 'key', 'value')),
    rule('positioning.map', f'{HEAD}.positioning.map', CONV),
    rule('focus{l}.{g}', f'{HEAD}.focus.{{l}}.{{g}}', l=LEVELS, g=('alpha', 'beta')),
    rule('focus{l}.up.0', f'{HEAD}.focus.{{l}}.up.0', CONV, l=LEVELS),
    rule('focus{l}.up.1', f'{HEAD}.focus.{{l}}.up.1', NORM, l=LEVELS),
    *_context('p{i}_channel_reduction', 'reduce.{i}'),
    *_context('p{i}', 'local.{i}'),
    *_context('p{i}_dc', 'dilated.{i}'),
    *_context('fusion', 'fuse'),
    rule('focus{l}.bn{r}', f'{HEAD}.focus.{{l}}.refine{{r}}.0', NORM, l=LEVELS, r=(1, 2)),
    rule('focus{l}.output_map', f'{HEAD}.focus.{{l}}.map', CONV, l=LEVELS),
)


if __name__ == '__main__':
    run_converter(TABLE, __doc__)
