"""mmplugins: components of well-known papers for the OpenMMLab toolboxes.

Importing this package gives mmcv plain operators where it has none compiled (``mmplugins.ops``) and tells mmengine,
where there is one, where our configs lie. The first use of a registry checks mmengine's version, and a component is
imported when its type is first built, so that ``mmplugins.functional`` needs no toolbox. ``python -m mmplugins.doctor``
tells what can be built in the current environment.
"""

from mmplugins.ops import activate
from mmplugins.version import __version__

activate()

try:
    from mmengine.config.utils import MODULE2PACKAGE
except ImportError:  # none, or one that is too old; mmplugins.registry says what to install
    pass
else:
    MODULE2PACKAGE.setdefault('mmplugins', 'mmplugins')  # lets a config say _base_ = 'mmplugins::...'

__all__ = ['__version__']
