"""Cases of the benchmark, one module a group; modules with a leading underscore are the frame.

``../benchmark.py`` tells how to add a case.
"""

from importlib import import_module
from pkgutil import iter_modules

from ._case import CASES, OURS, SIZES, Case, case


def load_cases() -> dict[str, Case]:
    """Imports every group and returns all cases by name."""
    for module in iter_modules(__path__):
        if not module.name.startswith('_'):
            import_module(f'{__name__}.{module.name}')
    return CASES


__all__ = ['CASES', 'OURS', 'SIZES', 'Case', 'case', 'load_cases']
