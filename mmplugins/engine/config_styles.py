"""Reads a config of either style, and says what is wrong where the two are mixed.

A text config inherits with ``_base_ = 'file.py'`` and names types as strings. A pure-Python one inherits with
``with read_base(): from .module import *`` and imports its types. mmengine takes one style in a chain of configs. Where
a file has both it raises nothing: it leaves out ``_base_``, or reads the imports as plain Python, whichever comes
first.
"""

import ast
from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError


class ConfigError(Exception):
    """A config cannot be read; the text says how to mend it."""


def read_config(path: str) -> Config:
    """Reads a config file.

    Args:
        path: The file.

    Returns:
        The config.

    Raises:
        ConfigError: It mixes the two styles, imports what is not there, or has a syntax error.
    """
    if path.endswith('.py'):
        _check_one_style(path)
    try:
        return Config.fromfile(path)
    except (RuntimeError, ConfigParsingError) as error:
        if 'in the inheritance chain' in str(error):
            raise ConfigError(_mixed(path, error)) from error
        if isinstance(error, ConfigParsingError):
            raise ConfigError(
                f'config {path}: {error}; modules of read_base are files beside the config (from .name import *) or of '
                'an installed package (from mmplugins.configs.detr.name import *)'
            ) from error
        raise


def _check_one_style(path: str) -> None:
    try:
        tree = ast.parse(Path(path).read_text(encoding='utf-8'))
    except SyntaxError as error:
        imports = 'import *' in (error.text or '') or 'read_base' in Path(path).read_text(encoding='utf-8')
        raise ConfigError(
            f'config {path}, line {error.lineno}: {error.msg}: {(error.text or "").strip()}'
            + '; read_base imports modules, whose names have letters, digits and underscores: rename the file' * imports
        ) from error
    has_base = any(
        isinstance(node, ast.Assign) and any(getattr(target, 'id', None) == '_base_' for target in node.targets)
        for node in ast.walk(tree)
    )
    has_read_base = any(
        isinstance(node, ast.With)
        and getattr(getattr(node.items[0].context_expr, 'func', None), 'id', '') == 'read_base'
        for node in ast.walk(tree)
    )
    if has_base and has_read_base:
        raise ConfigError(
            f'config {path} has both _base_ and read_base, of which one would be left out: inherit from text configs '
            'with _base_, or from pure-Python ones with read_base, not from both'
        )


def _mixed(path: str, error: Exception) -> str:
    if isinstance(error, ConfigParsingError):
        return (
            f'config {path} inherits with read_base, and a config that it imports inherits with _base_; all configs '
            'of a chain must be of one style. Write _base_ in this one too, or import a pure-Python config, as those '
            'in mmplugins/configs/'
        )
    word = next(
        (word.rstrip('.') for word in str(error).split() if word.endswith(('.py.', '.py'))), 'the one inherited'
    )
    return (
        f'config {path} inherits with _base_, and {word} is a pure-Python config (read_base, or imports); all configs '
        'of a chain must be of one style. Inherit from a text config, as those in configs/, or write this one as: from '
        'mmengine.config import read_base; with read_base(): from MODULE import *'
    )
