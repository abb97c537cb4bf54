"""``python -m mmplugins.doctor``: what is installed, what can be built here, and what cannot and why."""

import platform
from collections.abc import Iterator
from importlib import import_module

from mmplugins.hosts import HOSTS, problem_with
from mmplugins.ops import compiled
from mmplugins.version import __version__


def registries() -> dict:
    """Returns the registries of mmplugins by name, with everything that they know imported; they need mmengine."""
    from mmengine.registry import Registry

    from mmplugins import registry

    found = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}
    for value in found.values():
        value.import_from_location()
    return found


def components() -> Iterator[tuple[str, str, str | None]]:
    """Yields the registry, the name and, if it cannot be built here, the reason, of every component."""
    for name, value in registries().items():
        for component, cls in sorted(value.module_dict.items()):
            yield name, component, getattr(cls, 'missing_host', None)


def versions() -> Iterator[tuple[str, str]]:
    """Yields the name and the version, or what is wrong, of all that the components stand on."""
    import torch

    yield 'mmplugins', __version__
    yield 'Python', platform.python_version()
    yield 'PyTorch', torch.__version__
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'no (CPU only)'
    yield 'CUDA device', device
    for module, host in HOSTS.items():
        problem = problem_with(module)
        version = None if problem else import_module(module).__version__
        tested = '' if version in (None, *host.tested) else f' (tested: {" and ".join(host.tested)})'
        yield module, problem or version + tested
    yield 'compiled mmcv operators', 'yes' if compiled() else 'no (the plain ones of mmplugins.ops take their place)'


def main() -> None:
    """Prints the report."""
    print('Versions')
    for name, version in versions():
        print(f'  {name:<24}{version}')
    if problem := problem_with('mmengine'):
        print(f'\nNo component can be built here: {problem}. mmplugins.functional works without it.')
        return
    print('\nComponents')
    reasons: dict[str, list[str]] = {}
    for registry_name, component, reason in components():
        print(f'  {registry_name:<18}mmplugins.{component:<26}{"cannot be built" if reason else "ok"}')
        if reason:
            reasons.setdefault(reason, []).append(component)
    for reason, names in reasons.items():
        print(f'\n{", ".join(names)} cannot be built here: {reason}.')


if __name__ == '__main__':
    main()
