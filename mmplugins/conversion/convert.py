"""Released checkpoints to ours and back, by a table of key patterns.

A converter writes its table with ``rule``; ``key_table`` spells it out into one released name for each of our names,
so that a tensor that the table does not know, and one that a checkpoint lacks, are told by name in both directions.
Values change in three declared ways only: ``constants`` are tensors of ours that the released model lacks, ``extras``
are those of the released model that ours lacks, and ``selections`` keep some rows of a tensor.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from io import BytesIO
from itertools import product
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple

import torch
from mmengine import fileio
from torch import Tensor

from mmplugins.files import NotWrittenError, write_whole

WEIGHT = ('weight',)
CONV = ('weight', 'bias')
NORM = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')

FROZEN_NORM = NORM[:-1]  # a batch norm that does not count its batches

KeyPairs = Iterator[tuple[str, str]]


class ConversionError(ValueError):
    """A checkpoint's tensors are not those of the table."""


class Selection(NamedTuple):
    """Rows (entries of the first dimension) of a released tensor that ours keeps.

    Attributes:
        rows: Row of the released tensor for each row of ours, in our order.
        total: Number of rows of the released tensor.
        fill: Value that the other rows get on the way back, where nothing is known of them.
    """

    rows: Sequence[int]
    total: int
    fill: float = 0.0

    def apply(self, name: str, tensor: Tensor, reverse: bool) -> Tensor:
        """Selects the rows, or puts them back into place.

        Args:
            name: Name of the tensor, for the message.
            tensor: (total, ...), or, in reverse, (len(rows), ...).
            reverse: From our tensor to the released one.

        Returns:
            (len(rows), ...), or, in reverse, (total, ...).

        Raises:
            ConversionError: The tensor has another number of rows.
        """
        expected = len(self.rows) if reverse else self.total
        if tensor.ndim == 0 or len(tensor) != expected:
            raise ConversionError(f'{name} should have {expected} rows, and has the shape {tuple(tensor.shape)}')
        if not reverse:
            return tensor[list(self.rows)]
        released = tensor.new_full((self.total, *tensor.shape[1:]), self.fill)
        released[list(self.rows)] = tensor
        return released


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


def batch_counters(table: Mapping[str, str]) -> dict[str, Tensor]:
    """Gives our batch norms' counters, 0, by name: constants where the released batch norms are frozen."""
    suffix = '.running_var'
    norms = [name.removesuffix(suffix) for name in table.values() if name.endswith(suffix)]
    return {f'{norm}.num_batches_tracked': torch.tensor(0) for norm in norms}


def rename_tensors(
    state: Mapping[str, Tensor],
    table: Mapping[str, str],
    reverse: bool = False,
    constants: Mapping[str, Tensor] | None = None,
    selections: Mapping[str, Selection] | None = None,
    extras: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Renames the tensors of a state dict.

    Args:
        state: Tensors by name.
        table: Our name of each released name.
        reverse: From our names to the released ones.
        constants: Tensors by our names that the released model lacks: added as they are, taken off in reverse. A
            checkpoint of ours that has none of them is taken too.
        selections: By our names, the rows that ours keeps of a released tensor.
        extras: Tensors by released names that our model lacks: taken off where they are, added in reverse as they
            are given here.

    Returns:
        The tensors by their new names, in the table's order, constants or extras last.

    Raises:
        ConversionError: The state dict has names that the table lacks, or lacks names that the table has, and lists
            them; or a tensor to select from has another number of rows.
    """
    constants, selections, extras = constants or {}, selections or {}, extras or {}
    names = {ours: theirs for theirs, ours in table.items()} if reverse else table
    known = names.keys() | (constants if reverse else extras).keys()
    required = known if reverse and any(name in state for name in constants) else names.keys()
    problems = []
    for what, keys in (('not in the table', state.keys() - known), ('missing', required - state.keys())):
        if keys:
            problems.append(f'{len(keys)} {what}:\n  ' + '\n  '.join(sorted(keys)))
    if problems:
        direction = 'ours, which --reverse takes' if reverse else 'the released model'
        raise ConversionError(f'the checkpoint is not of {direction}; of its tensors are\n' + '\n'.join(problems))
    renamed = {new: state[old] for old, new in names.items()}
    for ours, selection in selections.items():
        name = names[ours] if reverse else ours
        renamed[name] = selection.apply(name, renamed[name], reverse)
    return renamed | dict(extras if reverse else constants)


def read_file(path: str | Path) -> dict:
    """Reads a checkpoint of torch's without running what it may hold: tensors and plain values, no other class.

    Raises:
        ConversionError: It holds something else, or is no checkpoint.
        FileNotFoundError: There is no such file.
    """
    data = BytesIO(fileio.get(str(path)))
    allowed = getattr(torch.serialization, 'safe_globals', nullcontext)  # since PyTorch 2.5
    try:
        with allowed([Namespace]):  # the arguments of a training, in files of DETR
            checkpoint = torch.load(data, map_location='cpu', weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError, AttributeError) as error:
        if 'nsupported' in str(error) or 'GLOBAL' in str(error) or 'weights_only' in str(error).lower():
            raise ConversionError(
                'it is not read, as it holds more than tensors and plain values, or is no checkpoint of torch, and '
                f'reading it could run any code ({str(error).strip().splitlines()[-1][:200]}). If you trust it, load '
                'it yourself and save its state dict alone'
            ) from error
        kind = f'{type(error).__name__}: {str(error)[:200]}'
        raise ConversionError(f'it is no checkpoint of torch, or is cut off ({kind})') from error
    if not isinstance(checkpoint, Mapping):
        raise ConversionError(f'expected a dict of tensors by name, got {type(checkpoint).__name__}')
    return checkpoint


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Reads the state dict of a checkpoint: the file itself, or what it keeps as ``state_dict`` or ``model``.

    The prefix ``module.`` of data-parallel training is taken off. See ``read_file`` for errors.
    """
    checkpoint = read_file(path)
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    prefix = 'module.' if all(name.startswith('module.') for name in checkpoint) else ''
    return {name.removeprefix(prefix): tensor for name, tensor in checkpoint.items()}


def write_checkpoint(checkpoint: dict, path: str, tool: str) -> None:
    """Writes a converted checkpoint.

    Args:
        checkpoint: What to save.
        path: The file; folders are made.
        tool: Name of the program, for its error.

    Raises:
        SystemExit: It cannot be written; the text says why. What was at the path is there still.
    """
    buffer = BytesIO()
    torch.save(checkpoint, buffer)
    try:
        write_whole(buffer.getvalue(), Path(path))
    except NotWrittenError as error:
        sys.exit(f'{tool}: error: {error.strerror}')


def run_converter(
    convert: Mapping[str, str] | Callable[[dict[str, Tensor], Namespace], dict[str, Tensor]],
    description: str,
    argv: Sequence[str] | None = None,
    flags: Mapping[str, str] | None = None,
    released_key: str | None = None,
    read: Callable[[str], dict[str, Tensor]] = read_tensors,
) -> None:
    """Runs a converter's command line: ``SRC DST [--reverse]``.

    Args:
        convert: Our name of each released name; or a function of the tensors and of the arguments (``reverse`` and
            the flags) that gives the converted tensors.
        description: First lines of the help.
        argv: Arguments; None: the program's own.
        flags: Help text of each further flag of the converter.
        released_key: Where a released file keeps its tensors; None: the file is the state dict itself.
        read: Reads the tensors of a file, released or ours.
    """
    parser = ArgumentParser(description=description)
    parser.add_argument('src', metavar='SRC', help='checkpoint to read')
    parser.add_argument('dst', metavar='DST', help='file to write')
    parser.add_argument('--reverse', action='store_true', help='from ours to the released names')
    for flag, text in (flags or {}).items():
        parser.add_argument(flag, action='store_true', help=text)
    args = parser.parse_args(argv)
    try:
        state = read(args.src)
        state = convert(state, args) if callable(convert) else rename_tensors(state, convert, args.reverse)
    except (ConversionError, FileNotFoundError) as error:
        sys.exit(f'{parser.prog}: error: {args.src}: {error}')
    if not args.reverse:
        checkpoint = {'state_dict': state, 'meta': {}}
    else:
        checkpoint = state if released_key is None else {released_key: state}
    write_checkpoint(checkpoint, args.dst, parser.prog)
    sys.stdout.write(f'{len(state)} tensors written to {args.dst}\n')
