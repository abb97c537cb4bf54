"""What the checks found: ok, a warning or an error, with how to mend it."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import NamedTuple

from mmengine.logging import MMLogger

LEVELS = ('ok', 'warning', 'error')


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        level: One of ``LEVELS``.
        check: Name of the check.
        text: What was found.
        mend: How to mend it; '' for ok.
    """

    level: str
    check: str
    text: str
    mend: str = ''

    def __str__(self) -> str:
        lines = [f'{self.level:<9}{self.check:<12}{self.text}']
        if self.mend:
            lines.append(f'{"":21}-> {self.mend}')
        return '\n'.join(lines)


class Report:
    """Collects findings.

    Args:
        tell: Called with each finding at once; None: nothing is.
    """

    def __init__(self, tell: Callable[[Finding], object] | None = None) -> None:
        self.findings: list[Finding] = []
        self._tell = tell

    def add(self, level: str, check: str, text: str, mend: str = '') -> None:
        """Adds a finding; see ``Finding``."""
        self.findings.append(Finding(level, check, text, mend))
        if self._tell is not None:
            self._tell(self.findings[-1])

    def ok(self, check: str, text: str) -> None:
        """Adds what is well."""
        self.add('ok', check, text)

    def warning(self, check: str, text: str, mend: str) -> None:
        """Adds what may be meant so."""
        self.add('warning', check, text, mend)

    def error(self, check: str, text: str, mend: str) -> None:
        """Adds what will fail, or train something else than was meant."""
        self.add('error', check, text, mend)

    def count(self, level: str) -> int:
        """Number of findings of a level."""
        return sum(finding.level == level for finding in self.findings)

    def failed(self, check: str) -> bool:
        """Whether a check found an error."""
        return any(finding.level == 'error' and finding.check == check for finding in self.findings)

    @property
    def summary(self) -> str:
        """Numbers of errors and warnings, in words."""
        return ', '.join(f'{n} {what}{"s" * (n != 1)}' for what in ('error', 'warning') for n in [self.count(what)])


def walk(node: object, key: str) -> Iterator[tuple[str, dict]]:
    """Yields the key and the value of every dict in a config, the outermost first.

    Args:
        node: Part of a config.
        key: Its own key, as ``--cfg-options`` names it.
    """
    if isinstance(node, Mapping):
        yield key, node
        for name, child in node.items():
            yield from walk(child, f'{key}.{name}')
    elif isinstance(node, list | tuple):
        for index, child in enumerate(node):
            yield from walk(child, f'{key}.{index}')


def leaves(dataset: Mapping, key: str) -> Iterator[tuple[str, dict]]:
    """Yields the key and the config of each data set that a data set joins, repeats or mixes; its own if none."""
    inner = [(f'{key}.dataset', dataset['dataset'])] if isinstance(dataset.get('dataset'), Mapping) else []
    inner += [(f'{key}.datasets.{i}', one) for i, one in enumerate(dataset.get('datasets') or [])]
    for place, one in inner:
        yield from leaves(one, place)
    if not inner:
        yield key, dataset


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns '; did you mean ...?' with the names that are close, or ''."""
    close = get_close_matches(name, list(known), n=2, cutoff=0.7)
    return f'; did you mean {" or ".join(close)}?' if close else ''


def listed(names: Iterable[object], shown: int = 5) -> str:
    """Joins names with commas, so many at most."""
    names = [str(name) for name in names]
    return ', '.join(names[:shown]) + (f' and {len(names) - shown} more' if len(names) > shown else '')


def more(seen: str) -> str:
    """The advice to read more files, unless all were read."""
    return '' if ': all ' in seen else 'look at more files with --files N; '


def cause(error: BaseException) -> str:
    """The text of an error in one line, with its kind."""
    return f'{type(error).__name__}: {" ".join(str(error).split())[:400]}'


@contextmanager
def quiet(level: int = logging.INFO) -> Iterator[None]:
    """Keeps logs of a level and below away: mmengine tells of every tensor, and of each registry that lacks a scope."""
    before = logging.root.manager.disable
    _disable(max(before, level))
    try:
        yield
    finally:
        _disable(before)


def _disable(level: int) -> None:
    """Disables a level of all loggers; those of mmengine remember what is enabled, until a level is set."""
    logging.disable(level)
    current = MMLogger.get_current_instance()
    current.setLevel(current.level)
