"""mmcv's operators in plain PyTorch, for where mmcv has none compiled.

mmcv keeps its compiled operators in the module ``mmcv._ext``. Where no such module is installed, as with mmcv-lite,
importing mmplugins gives one: with the operators that mmdet's and mmseg's detectors and segmentors need, on any device
and with gradients, and with a sentence in place of each of the others. A compiled module is never replaced. mmplugins
must be imported before what imports ``mmcv.ops``; ``python -m mmplugins.with_ops`` does so for other people's programs.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import ModuleType

NAME = 'mmcv._ext'


class _PlainLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        from . import extension  # only here: it needs torch

        vars(module).update(extension.OPERATORS, __doc__=extension.__doc__, __getattr__=extension.missing)


class _PlainFinder(MetaPathFinder):
    """Stands at the end of the finders, so that it is asked only where nothing is installed."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return spec_from_loader(NAME, _PlainLoader(), origin='mmplugins.ops') if fullname == NAME else None


def activate() -> None:
    """Lets ``import mmcv._ext`` find the plain operators where nothing else provides that module."""
    if not any(isinstance(finder, _PlainFinder) for finder in sys.meta_path):
        sys.meta_path.append(_PlainFinder())


def compiled() -> bool:
    """Returns whether mmcv with compiled operators is installed."""
    try:
        spec = find_spec(NAME)
    except (ImportError, ValueError):  # no mmcv at all, or a module that was put there by hand
        return False
    return spec is not None and isinstance(spec.loader, ExtensionFileLoader)
