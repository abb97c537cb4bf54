"""The toolboxes that mmplugins plugs into: which versions work, and what is said when one is missing.

Each toolbox comes in two distributions that share a module: OpenMMLab's own, and VBTI's maintained fork of it,
``onedl-...``. They cannot stand side by side, so that advice follows those that are installed.

A component that needs a host which is not there is registered all the same, as a placeholder: building it raises
an ImportError that names the component, the host and the install command. Everything else keeps working.
"""

import importlib
from importlib import metadata
from importlib.util import find_spec
from typing import NamedTuple

from packaging.version import InvalidVersion, Version


class Host(NamedTuple):
    """A toolbox.

    Attributes:
        distribution: Name and version of the fork's distribution that was tested, as pip takes it.
        minimum: Oldest version of the module that is accepted.
        install: Command that installs the fork's distribution; mmcv, where the host needs it, is apart.
        needs: Modules that must be importable for the host to work.
        original: Name and version of OpenMMLab's own distribution that was tested, as pip takes it.
        original_install: Command that installs that one.
        also: Names and versions of further distributions that were tested.
        without_operators: Version from which on the host imports where mmcv has no operators; None: none does.
    """

    distribution: str
    minimum: str
    install: str
    needs: tuple[str, ...] = ()
    original: str = ''
    original_install: str = ''
    also: tuple[str, ...] = ()
    without_operators: str | None = '0'

    @property
    def tested(self) -> tuple[str, ...]:
        """Names and versions of the distributions that were tested."""
        return tuple(name for name in (self.distribution, self.original, *self.also) if name)


HOSTS = {
    'mmengine': Host(
        'onedl-mmengine==0.10.12',
        '0.10.3',
        'pip install onedl-mmengine==0.10.12',
        original='mmengine==0.10.7',
        original_install='pip install mmengine==0.10.7',
        also=('mmengine==0.10.4',),
    ),
    'mmcv': Host(
        'onedl-mmcv==2.3.6',
        '2.0.1',
        'pip install --no-deps mmcv-lite==2.2.0',  # which asks for the mmengine that is not the fork's
        original='mmcv-lite==2.1.0',
        original_install='pip install mmcv-lite==2.1.0',
        also=('mmcv-lite==2.2.0', 'mmcv-lite==2.0.1'),
    ),
    'mmseg': Host(
        'onedl-mmsegmentation==1.4.2',
        '1.2.0',
        'pip install onedl-mmsegmentation==1.4.2',
        needs=('mmcv',),
        original='mmsegmentation==1.2.2',
        original_install='pip install mmsegmentation==1.2.2 ftfy regex',  # it needs both and asks for neither
        without_operators='1.3.0',
    ),
    'mmdet': Host(
        'onedl-mmdetection==3.5.1',
        '3.2.0',
        'pip install onedl-mmdetection==3.5.1',
        needs=('mmcv',),
        original='mmdet==3.3.0',
        original_install='pip install mmdet==3.3.0',
        also=('mmdet==3.2.0',),
        without_operators=None,
    ),
}
_PROVIDERS = {
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
}
_ORIGINAL_MMCV_BELOW = '2.2.0'  # mmsegmentation 1.2.2 and mmdet 3.3.0 refuse it


def installed(host: str) -> dict[str, str]:
    """Returns the distributions that are installed of a host, and their versions; two overwrite each other's files.

    Args:
        host: A key of ``HOSTS``.
    """
    found = {}
    for name in _PROVIDERS.get(host, ()):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def originals() -> bool:
    """Whether the toolboxes that are installed are OpenMMLab's own; not where there are none, or one of the fork."""
    names = {name for host in HOSTS for name in installed(host)} - {'mmcv-lite'}  # which stands beside either
    return bool(names) and not any(name.startswith('onedl-') for name in names)


def install_command(host: str) -> str:
    """Returns the command that installs a host, and mmcv if it needs that, beside the toolboxes that are there.

    Args:
        host: A key of ``HOSTS``.
    """
    original, wanted = originals(), HOSTS[host]
    commands = []
    if 'mmcv' in (host, *wanted.needs):
        found = installed('mmcv')
        if not (found and all(_fits(version, original) for version in found.values())):
            commands += [f'pip uninstall -y {" ".join(found)}'] if found else []
            commands.append(HOSTS['mmcv'].original_install if original else HOSTS['mmcv'].install)
    if host != 'mmcv':
        commands.append(wanted.original_install if original and wanted.original_install else wanted.install)
    return ' && '.join(commands) or f'pip install --force-reinstall --no-deps {" ".join(installed("mmcv"))}'


def _fits(version: str, original: bool) -> bool:
    return not older(version, HOSTS['mmcv'].minimum) and (not original or older(version, _ORIGINAL_MMCV_BELOW))


def older(version: str, than: str) -> bool:
    """Whether a version is older than another; no local build is."""
    try:
        return Version(version) < Version(than)
    except InvalidVersion:  # a local build: nothing is known against it
        return False


def problem_with(host: str) -> str | None:
    """Says in one sentence why a host cannot be used, with the command that mends it.

    Args:
        host: A key of ``HOSTS``.

    Returns:
        The sentence, or None if the host is there and recent enough.
    """
    wanted = HOSTS[host]
    for module in (*wanted.needs, host):
        if not _there(module):
            return f'{module} is not installed; run `{install_command(host)}`'
    try:
        version = importlib.import_module(host).__version__
    except (ImportError, AssertionError) as error:  # a toolbox asserts the versions of those below it
        return f'{host} does not import ({error}); run `{install_command(host)}`'
    if older(version, wanted.minimum):
        return f'{host} {version} is older than {wanted.minimum}; run `{install_command(host)}`'
    operators = wanted.without_operators is not None and not older(version, wanted.without_operators)
    if not operators and not _there('mmcv._ext'):
        return f'{host} {version} needs an mmcv with operators (mmcv._ext); import mmplugins before it, or compile mmcv'
    return None


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False
    except ValueError:  # put into sys.modules by hand
        return True


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
