"""mmplugins: exact and fast components of well-known papers for the OpenMMLab toolboxes.

Importing this package checks mmengine's version, tells mmengine where our configs lie, and gives mmcv plain operators
where it has none compiled (``mmplugins.ops``); a component is imported when its type is first built.
``python -m mmplugins.doctor`` tells what can be built in the current environment.
"""

from mmplugins.hosts import require_host
from mmplugins.ops import activate
from mmplugins.version import __version__

activate()
require_host('mmengine', 'mmplugins')

from mmengine.config.utils import MODULE2PACKAGE  # noqa: E402

MODULE2PACKAGE.setdefault('mmplugins', 'mmplugins')  # lets a config say _base_ = 'mmplugins::...'

__all__ = ['__version__']
