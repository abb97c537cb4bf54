"""Registries of mmplugins, children of mmengine's, in scope ``mmplugins``.

``type='mmplugins.X'`` builds X from any default scope, with or without ``custom_imports``: mmengine imports this
module when it meets the scope, and a registry imports the packages in its ``locations`` one after the other until
the type is there. Packages that need no host come first, so that a loss never imports a toolbox.
"""

from importlib import import_module

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry


class PluginRegistry(Registry):
    """A registry that imports only as many of its locations as a type needs.

    mmengine's own imports all locations at the first look-up. Here that would import mmseg and mmdet for the sake
    of a loss that needs neither.
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
        return super().get(key)


def _child(name: str, *locations: str) -> PluginRegistry:
    parent = getattr(mmengine_registry, name)
    return PluginRegistry(parent.name, parent=parent, scope='mmplugins', locations=list(locations))


MODELS = _child('MODELS', 'mmplugins.models.losses', 'mmplugins.models.decode_heads')
TASK_UTILS = _child('TASK_UTILS')
DATASETS = _child('DATASETS', 'mmplugins.datasets')
TRANSFORMS = _child('TRANSFORMS', 'mmplugins.datasets.transforms')
METRICS = _child('METRICS', 'mmplugins.evaluation.metrics')
HOOKS = _child('HOOKS')
VISUALIZERS = _child('VISUALIZERS')
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS', 'mmplugins.engine.schedulers')
