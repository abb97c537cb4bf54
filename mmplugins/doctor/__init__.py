"""``python -m mmplugins.doctor``: what is installed; with a config, what is wrong with it before a long run.

``installation`` reports versions and components and needs no toolbox. The other modules check a config: ``names`` its
types and arguments, ``classes`` the numbers of classes, ``weights`` what it starts from, ``labels`` and ``objects``
the data after the pipeline, ``step`` one batch through model, loss and optimizer. ``check`` runs them all.
"""

from .installation import components, registries

__all__ = ['components', 'registries']
