"""Registries of mmplugins, children of mmengine's, in scope ``mmplugins``.

``type='mmplugins.X'`` builds X from any default scope, with or without ``custom_imports``: mmengine imports this
module when it meets the scope, and a registry imports the packages in its ``locations`` one after the other until
the type is there. Packages that need no host come first, so that a loss never imports a toolbox. Importing this module
without mmengine, or with one that is too old, raises an ImportError that says what to install.
"""

from importlib import import_module

from mmplugins.hosts import require_host

require_host('mmengine', 'the registry of mmplugins')

from mmengine import registry as mmengine_registry  # noqa: E402
from mmengine.registry import DefaultScope, Registry  # noqa: E402


class PluginRegistry(Registry):
    """A registry that imports only as many of its locations as a type needs.

    mmengine's own imports all locations at the first look-up. Here that would import mmseg and mmdet for the sake
    of a loss that needs neither.

    Where ``mmplugins`` is itself the default scope, as mmengine makes it for what a config inherits from
    ``_base_ = 'mmplugins::...'``, a type that is not ours is looked for in the toolboxes too.
    """

    def get(self, key: str) -> type | None:
        """Returns the class of a type name.

        Args:
            key: ``'X'`` or ``'mmplugins.X'`` for our own; any other scope goes mmengine's way.

        Returns:
            The class, or None if there is none.
        """
        if isinstance(key, str):
            scope, name = self.split_scope_key(key)
            if scope in (None, self.scope):
                for location in [None, *self._locations]:
                    if location is not None:
                        import_module(location)
                    if name in self.module_dict:
                        return self.module_dict[name]
            if scope is None:
                for host in _toolbox_scopes():
                    toolbox = self.root.children.get(host)
                    if toolbox is not None and (cls := toolbox.get(name)) is not None:
                        return cls
        return super().get(key)

    def import_from_location(self) -> None:
        """Imports all locations; where there are none, there is nothing to look for (mmengine would warn)."""
        if self._locations:
            super().import_from_location()


def _toolbox_scopes() -> list[str]:
    """Toolboxes to search where mmplugins is the default scope: the one that the run was started in comes first."""
    current = DefaultScope.get_current_instance()
    if current is None or current.scope_name != 'mmplugins':
        return []
    started = [scope.scope_name for scope in reversed(DefaultScope._instance_dict.values())]
    scopes = []
    for host in sorted(('mmseg', 'mmdet'), key=lambda host: started.index(host) if host in started else len(started)):
        try:
            import_module(f'{host}.registry')
        except (ImportError, AssertionError):  # a toolbox asserts the versions of those below it
            continue
        scopes.append(host)
    return scopes


def _child(name: str, *locations: str) -> PluginRegistry:
    parent = getattr(mmengine_registry, name)
    return PluginRegistry(parent.name, parent=parent, scope='mmplugins', locations=list(locations))


MODELS = _child(
    'MODELS',
    'mmplugins.models.averaging',
    'mmplugins.models.losses',
    'mmplugins.models.backbones',
    'mmplugins.models.decode_heads',
    'mmplugins.models.dense_heads',
    'mmplugins.models.segmentors',
)
TASK_UTILS = _child(
    'TASK_UTILS', 'mmplugins.models.task_modules.match_costs', 'mmplugins.models.task_modules.assigners'
)
DATASETS = _child('DATASETS', 'mmplugins.datasets')
TRANSFORMS = _child('TRANSFORMS', 'mmplugins.datasets.transforms')
DATA_SAMPLERS = _child('DATA_SAMPLERS', 'mmplugins.datasets.samplers')
METRICS = _child('METRICS', 'mmplugins.evaluation.metrics')
HOOKS = _child('HOOKS', 'mmplugins.engine.hooks')
VISUALIZERS = _child('VISUALIZERS', 'mmplugins.visualization.visualizers')
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS', 'mmplugins.engine.schedulers')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', 'mmplugins.engine.optimizers')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS', 'mmplugins.engine.optimizers')

# Nothing of ours is in these; they are here so that a run whose default scope is mmplugins finds all that it needs.
RUNNERS = _child('RUNNERS')
RUNNER_CONSTRUCTORS = _child('RUNNER_CONSTRUCTORS')
LOOPS = _child('LOOPS')
LOG_PROCESSORS = _child('LOG_PROCESSORS')
MODEL_WRAPPERS = _child('MODEL_WRAPPERS')
EVALUATOR = _child('EVALUATOR')
OPTIMIZERS = _child('OPTIMIZERS')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS')
VISBACKENDS = _child('VISBACKENDS')
INFERENCERS = _child('INFERENCERS')
STRATEGIES = _child('STRATEGIES')
FUNCTIONS = _child('FUNCTIONS')
