"""Released checkpoints to ours and back, by a table of key patterns.

A converter writes its table with ``rule``; ``key_table`` spells it out into one released name for each of our names,
so that a tensor that the table does not know, and one that a checkpoint lacks, are told by name in both directions.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

WEIGHT = ('weight',)
CONV = ('weight', 'bias')
NORM = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')

KeyPairs = Iterator[tuple[str, str]]


class ConversionError(ValueError):
    """A checkpoint's tensors are not those of the table."""


def rule(
    released: str, ours: str, tensors: Sequence[str] = (), **values: Iterable[object] | Mapping[object, object]
) -> KeyPairs:
    """Spells out one pattern.

    Args:
        released: Name in the released checkpoint; ``{name}`` stands for each of the values of ``name`` in turn.
        ours: Name in our checkpoint, with the same placeholders.
        tensors: Last parts of the names, such as ``CONV`` or ``NORM``; none if the pattern is the whole name.
        **values: Values of each placeholder; a mapping where ours differs from the released one.

    Yields:
        Released name and our name.
    """
    pairs = [list(v.items()) if isinstance(v, Mapping) else [(x, x) for x in v] for v in values.values()]
    for combination in product(*pairs):
        theirs = released.format(**{name: pair[0] for name, pair in zip(values, combination, strict=True)})
        own = ours.format(**{name: pair[1] for name, pair in zip(values, combination, strict=True)})
        if not tensors:
            yield theirs, own
        for tensor in tensors:
            yield f'{theirs}.{tensor}', f'{own}.{tensor}'


def key_table(*rules: KeyPairs) -> dict[str, str]:
    """Joins rules into one table.

    Args:
        *rules: What ``rule`` gives.

    Returns:
        Our name of each released name.

    Raises:
        ValueError: Two rules give the same name, on either side.
    """
    pairs = [pair for one in rules for pair in one]
    for side, names in zip(('released', 'our'), zip(*pairs, strict=True), strict=True):
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise ValueError(f'the table gives these {side} names twice: {", ".join(twice)}')
    return dict(pairs)


def rename_tensors(state: Mapping[str, Tensor], table: Mapping[str, str], reverse: bool = False) -> dict[str, Tensor]:
    """Renames the tensors of a state dict.

    Args:
        state: Tensors by name.
        table: Our name of each released name.
        reverse: From our names to the released ones.

    Returns:
        The same tensors by their new names, in the table's order.

    Raises:
        ConversionError: The state dict has names that the table lacks, or lacks names that the table has; lists them.
    """
    names = {ours: theirs for theirs, ours in table.items()} if reverse else table
    problems = []
    for what, keys in (('not in the table', state.keys() - names.keys()), ('missing', names.keys() - state.keys())):
        if keys:
            problems.append(f'{len(keys)} {what}:\n  ' + '\n  '.join(sorted(keys)))
    if problems:
        direction = 'ours, which --reverse takes' if reverse else 'the released model'
        raise ConversionError(f'the checkpoint is not of {direction}; of its tensors are\n' + '\n'.join(problems))
    return {new: state[old] for old, new in names.items()}


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Reads the state dict of a checkpoint: the file itself, or what it keeps as ``state_dict`` or ``model``.

    The prefix ``module.`` of data-parallel training is taken off.
    """
    checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    prefix = 'module.' if all(name.startswith('module.') for name in checkpoint) else ''
    return {name.removeprefix(prefix): tensor for name, tensor in checkpoint.items()}


def run_converter(table: Mapping[str, str], description: str, argv: Sequence[str] | None = None) -> None:
    """Runs a converter's command line: ``SRC DST [--reverse]``.

    Args:
        table: Our name of each released name.
        description: First lines of the help.
        argv: Arguments; None: the program's own.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument('src', metavar='SRC', help='checkpoint to read')
    parser.add_argument('dst', metavar='DST', help='file to write')
    parser.add_argument('--reverse', action='store_true', help='from ours to the released names')
    args = parser.parse_args(argv)
    try:
        state = rename_tensors(read_tensors(args.src), table, args.reverse)
    except (ConversionError, FileNotFoundError) as error:
        sys.exit(f'{parser.prog}: error: {args.src}: {error}')
    Path(args.dst).parent.mkdir(parents=True, exist_ok=True)
    torch.save(state if args.reverse else {'state_dict': state, 'meta': {}}, args.dst)
    sys.stdout.write(f'{len(state)} tensors written to {args.dst}\n')
