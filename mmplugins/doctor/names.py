"""Whether every ``type`` of a config is known, and every argument of hooks, metrics, data sets and transforms."""

import inspect
import logging
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec

from mmengine import registry as roots
from mmengine.config import Config
from mmengine.registry import Registry

from .report import Report, cause, did_you_mean, listed, quiet, walk

# What a runner builds. Other keys of a config are variables that these were made of.
BUILT = (
    *('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'val_evaluator', 'test_evaluator'),
    *('train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'param_scheduler', 'default_hooks', 'custom_hooks'),
    *('visualizer', 'log_processor', 'model_wrapper_cfg', 'tta_model', 'tta_pipeline'),
)
# Keys whose ``type`` is no registered name.
OTHER_NAMES = ('nms', 'mask_thr_binary')
# Keys that go before a class gets its arguments.
TAKEN_AWAY = {'type', '_scope_', 'priority'}


def check_names(report: Report, cfg: Config) -> None:
    """Looks every type up in the registries of the config's default scope, and arguments in the class.

    Args:
        report: Takes the findings, check ``types``.
        cfg: The config; its default scope is set.
    """
    with quiet(logging.WARNING):
        _check_all(report, cfg)


def _check_all(report: Report, cfg: Config) -> None:
    known = count = 0
    for key in BUILT:
        try:
            nodes = list(walk(cfg.get(key), key))
        except ImportError as error:  # a pure-Python config imports what it names when it is read
            report.error(
                'types', f'{key}: {cause(error)}', 'install what it names, or correct the import in the config'
            )
            continue
        albu = [place for place, node in nodes if node.get('type') == 'Albu']
        for place, node in nodes:
            if 'type' not in node or place.rpartition('.')[2] in OTHER_NAMES:
                continue
            if any(place.startswith(f'{one}.') for one in albu):  # names of another library
                continue
            count += 1
            known += _check(report, place, node)
    if known == count:
        report.ok('types', f'{count} types are known')


def _check(report: Report, key: str, node: Mapping) -> bool:
    name = node['type']
    try:
        cls, registry = find(name)
    except ImportError as error:
        report.error('types', f'{key}.type: {name} cannot be imported ({cause(error)})', 'install what it needs')
        return False
    if cls is None and key.startswith('model') and _is_unregistered(name):
        return True
    scope = name.partition('.')[0] if isinstance(name, str) and '.' in name else None
    if cls is None and scope is not None and find_spec(scope) is None:
        report.error(
            'types', f'{key}.type: {name} is of the package {scope}, which is not installed', f'install {scope}'
        )
        return False
    if cls is None:
        report.error(
            'types',
            f'{key}.type: {name!r} is in no registry{did_you_mean(name.rpartition(".")[2], _names())}',
            "correct the name, or import the module that registers it: custom_imports = dict(imports=['...'])",
        )
        return False
    missing = getattr(cls, 'missing_host', None)
    if missing:
        report.error('types', f'{key}.type: {name} cannot be built here', missing)
        return False
    if registry not in ('hook', 'metric', 'dataset', 'transform'):
        return True
    accepted = arguments(cls)
    unknown = [] if accepted is None else [arg for arg in node if arg not in accepted | TAKEN_AWAY]
    for argument in unknown:
        report.error(
            'types',
            f'{key}.{argument}: {cls.__name__} has no such argument{did_you_mean(argument, accepted)}',
            f'its arguments are {listed(sorted(accepted), 20)}',
        )
    return not unknown


def find(name: str | type) -> tuple[object | None, str | None]:
    """Looks a type up in all registries, from the current default scope.

    Args:
        name: Name of a type, with a scope or without; a class is its own.

    Returns:
        The class and the name of the registry that has it; None twice if there is none.
    """
    if not isinstance(name, str):
        return name, None
    for root in _registries():
        with root.switch_scope_and_registry(None) as registry:
            cls = registry.get(name)
        if cls is not None:
            return cls, root.name
    return None, None


def _is_unregistered(name: str) -> bool:
    """Whether a name within a model may be right though no registry has it; building the model tells.

    mmdet takes the layers of its RoI extractors from mmcv's operators, and some necks have names of functions.
    """
    if name.islower() and '.' not in name:
        return True
    try:
        return hasattr(import_module('mmcv.ops'), name)
    except ImportError:
        return False


def arguments(cls: type) -> set[str] | None:
    """Names of the arguments of a class, those that it hands on to its bases included; None if it takes any."""
    names: set[str] = set()
    for base in cls.__mro__ if inspect.isclass(cls) else ():
        init = vars(base).get('__init__')
        if init is None or base is object:
            continue
        parameters = inspect.signature(init).parameters.values()
        names.update(one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL))
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            return names - {'self'}
    return None


def _registries() -> list[Registry]:
    return [value for value in vars(roots).values() if isinstance(value, Registry)]


def _names() -> set[str]:
    found: set[str] = set()
    for root in _registries():
        for registry in (root, *root.children.values()):
            found.update(registry.module_dict)
    return found
