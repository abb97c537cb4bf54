"""AOT's released checkpoints to ours, and back with --reverse."""

from mmplugins.engine.convert import CONV, key_table, rule

AFFINE = ('weight', 'bias')
LEVELS = {'16x': 2, '8x': 1, '4x': 0}


def _decoder(theirs: str, ours: str) -> list:
    return [
        rule(f'{theirs}conv_in.conv', f'{ours}reduce.conv', CONV),
        rule(f'{theirs}conv_in.gn', f'{ours}reduce.gn', AFFINE),
        rule(f'{theirs}conv_{{l}}.conv', f'{ours}fuse.{{l}}.conv', CONV, l=LEVELS),
        rule(f'{theirs}conv_{{l}}.gn', f'{ours}fuse.{{l}}.gn', AFFINE, l=LEVELS),
        rule(f'{theirs}adapter_{{l}}', f'{ours}shortcuts.{{l}}', CONV, l=LEVELS),
        rule(f'{theirs}conv_out', f'{ours}out', CONV),
    ]


def decoder_table() -> dict[str, str]:
    """Gives the names of the decoder alone: ours of each released one."""
    return key_table(*_decoder('', ''))
