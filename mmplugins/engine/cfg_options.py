"""``--cfg-options KEY=VALUE ...`` of the tools: mmengine's, but a path stays as it is.

mmengine's parser deletes every blank of a value and splits it at commas, so that ``data_root='/data/my set, new'``
becomes a list of two folders that do not exist.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from mmengine.config import DictAction

PAIRS = {'(': ')', '[': ']'}


class CfgOptions(DictAction):
    """mmengine's ``--cfg-options``, with an error that names what is not ``key=value``; see ``parse_value``."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: list[str], option_string: str | None = None
    ) -> None:
        """Takes ``key=value`` strings; ends the program with a message at anything else."""
        wrong = [value for value in values if '=' not in value]
        if wrong:
            parser.error(
                f'{option_string} takes key=value pairs, got {" ".join(wrong)!r}; write for example '
                f"{option_string} train_cfg.max_iters=100, without blanks around '='; a value with blanks goes in "
                "quotes, 'work_dir=my runs/1'"
            )
        options = dict(getattr(namespace, self.dest, None) or {})
        for value in values:
            key, text = value.split('=', maxsplit=1)
            try:
                options[key] = parse_value(text)
            except ValueError as error:
                parser.error(f'{option_string} {value}: {error}')
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> object:
    """Gives the value that a text stands for.

    1. ``(...)`` is a tuple, ``[...]`` a list, nested or not, and so are values with commas between them.
    2. The path of a file or folder that is there is a string, and so is what stands in quotes, commas and all.
    3. Anything else is an integer, a float, true, false, None or a string, in which blanks stay.

    Args:
        text: What stands behind the first '='.

    Returns:
        The value.

    Raises:
        ValueError: Brackets or quotes are not closed in a list.

    Examples:
        >>> parse_value('[(1, 2), a b]'), parse_value('1e-3,true'), parse_value("'/data/a, b'")
        ([(1, 2), 'a b'], [0.001, True], '/data/a, b')
    """
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in '\'"' and text[0] not in text[1:-1]
    if quoted:
        text = text[1:-1]
    if text[:1] in PAIRS and text[-1:] == PAIRS[text[:1]] and not _is_path(text):
        values = [parse_value(part) for part in _split(text[1:-1])]
        return tuple(values) if text[0] == '(' else values
    if ',' in text and not quoted and not _is_path(text):
        return [parse_value(part) for part in _split(text)]
    return DictAction._parse_int_float_bool(text)


def _is_path(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long, or a null character
        return False


def _split(text: str) -> list[str]:
    """Splits at the commas that stand outside of brackets and quotes; one at the end ends nothing."""
    parts, closing, quote = [''], [], ''
    for letter in text:
        if quote:
            quote = '' if letter == quote else quote
        elif letter in '\'"' and not parts[-1].strip():
            quote = letter
        elif letter in PAIRS:
            closing.append(PAIRS[letter])
        elif closing and letter == closing[-1]:
            closing.pop()
        elif letter in PAIRS.values():
            raise ValueError(f'{letter!r} closes nothing; what is no list goes in quotes of its own: "key=\'a,b\'"')
        elif letter == ',' and not closing:
            parts.append('')
            continue
        parts[-1] += letter
    if closing or quote:
        raise ValueError(f'{(closing or [quote])[-1]!r} is missing; what is no list goes in quotes: "key=\'a,b\'"')
    return parts if parts[-1].strip() else parts[:-1]
