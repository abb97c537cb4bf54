"""The toolboxes that mmplugins plugs into: which versions work, and what is said when one is missing.

A component that needs a host which is not there is registered all the same, as a placeholder: building it raises
an ImportError that names the component, the host and the install command. Everything else keeps working.
"""

import importlib
from importlib.util import find_spec
from typing import NamedTuple


class Host(NamedTuple):
    """A toolbox.

    Attributes:
        distribution: Name and version of the distribution that was tested, as pip takes it.
        minimum: Oldest version of the module that is accepted.
        install: Command that installs it.
        needs: Modules that must be importable for the host to work.
        also: Versions of other distributions of the module that were tested.
    """

    distribution: str
    minimum: str
    install: str
    needs: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def tested(self) -> tuple[str, ...]:
        """Versions that were tested."""
        return self.distribution.partition('==')[2], *self.also


HOSTS = {
    'mmengine': Host('onedl-mmengine==0.10.12', '0.10.3', 'pip install onedl-mmengine==0.10.12'),
    'mmcv': Host(
        'onedl-mmcv==2.3.6',
        '2.0.1',
        'pip install --no-build-isolation onedl-mmcv==2.3.6',
        also=('2.2.0',),  # mmcv-lite
    ),
    'mmseg': Host(
        'onedl-mmsegmentation==1.4.2',
        '1.2.0',
        'pip install onedl-mmsegmentation==1.4.2 && pip install --no-deps mmcv-lite==2.2.0',
        needs=('mmcv',),
    ),
    'mmdet': Host(
        'onedl-mmdetection==3.5.1',
        '3.2.0',
        'pip install onedl-mmdetection==3.5.1 && pip install --no-deps mmcv-lite==2.2.0',
        needs=('mmcv',),  # with compiled operators or without: see mmplugins.ops
    ),
}


def problem_with(host: str) -> str | None:
    """Says in one sentence why a host cannot be used, with the command that mends it.

    Args:
        host: A key of ``HOSTS``.

    Returns:
        The sentence, or None if the host is there and recent enough.
    """
    wanted = HOSTS[host]
    for module in (*wanted.needs, host):
        try:
            found = find_spec(module)
        except ImportError:
            found = None
        if found is None:
            return f'{module} is not installed; run `{wanted.install}`'
    from packaging.version import InvalidVersion, Version  # not needed by those who have no toolbox

    try:
        version = importlib.import_module(host).__version__
    except (ImportError, AssertionError) as error:  # a toolbox asserts the versions of those below it
        return f'{host} does not import ({error}); run `{wanted.install}`'
    try:
        too_old = Version(version) < Version(wanted.minimum)
    except InvalidVersion:  # a local build: nothing is known against it
        too_old = False
    if too_old:
        return f'{host} {version} is older than {wanted.minimum}; run `{wanted.install}`'
    return None


def require_host(host: str, component: str) -> None:
    """Raises if a component's host cannot be used.

    Args:
        host: A key of ``HOSTS``.
        component: Name of the class that needs it, for the message.

    Raises:
        ImportError: The host is missing, broken or too old.
    """
    problem = problem_with(host)
    if problem is not None:
        raise ImportError(_needs(component, host, problem))


def placeholder(name: str, registry, host: str, problem: str) -> type:
    """Registers a class that stands for a component whose host cannot be used.

    Args:
        name: Name of the component.
        registry: The mmengine registry to put it into.
        host: The host that it needs.
        problem: What ``problem_with`` said of the host.

    Returns:
        A class whose construction raises ImportError.
    """

    def __init__(self, *args, **kwargs):
        raise ImportError(_needs(name, host, problem))

    cls = type(name, (), {'__init__': __init__, '__doc__': _needs(name, host, problem), 'missing_host': problem})
    return registry.register_module(name=name, module=cls)


def _needs(component: str, host: str, problem: str) -> str:
    return f'{component} needs {host}: {problem}.'
