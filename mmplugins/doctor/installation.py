"""What is installed, what can be built here, what cannot and why, and what mends it."""

import platform
from collections.abc import Iterator
from importlib import import_module, metadata
from importlib.util import find_spec

from mmplugins.functional.compat import COMPILES_SINCE, VERSION
from mmplugins.hosts import HOSTS, installed, originals, problem_with
from mmplugins.ops import compiled
from mmplugins.version import __version__
from mmplugins.wheels import DATE, alternatives, published

# Distributions that some components need, and no other.
OPTIONAL = {
    'pysodmetrics': 'SaliencyMetric',
    'vos-benchmark': 'VOSMetric',
}


def registries(wrong: list[str] | None = None) -> dict:
    """Imports all that the registries of mmplugins know, and returns the registries by name; they need mmengine.

    Args:
        wrong: Takes a sentence about each registry whose import fails; None: the error is raised.
    """
    from mmengine.registry import Registry

    from mmplugins import registry

    found = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}
    for name, value in found.items():
        try:
            value.import_from_location()
        except Exception as error:  # whatever a broken toolbox raises: the report is wanted just then
            if wrong is None:
                raise
            wrong.append(f'{name} cannot be imported: {type(error).__name__}: {error}')
    return found


def components(wrong: list[str] | None = None) -> Iterator[tuple[str, str, str | None]]:
    """Yields the registry, the name and, if it cannot be built here, the reason, of every component."""
    for name, value in registries(wrong).items():
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
    yield 'numpy', metadata.version('numpy')
    for module, host in HOSTS.items():
        problem = problem_with(module)
        if problem:
            yield module, problem
            continue
        version = import_module(module).__version__
        found = [f'{name}=={number}' for name, number in installed(module).items()]
        tested = '' if any(name in host.tested for name in found) else f'; tested: {", ".join(host.tested)}'
        yield module, f'{version} ({", ".join(found) or "a checkout"}{tested})'
    yield 'compiled mmcv operators', 'yes' if compiled() else 'no (the plain ones of mmplugins.ops take their place)'
    for name, user in OPTIONAL.items():
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, f'not installed; {user} needs it: `pip install {name}`'


def warnings() -> Iterator[str]:
    """Yields what stands in the way in this environment though everything seems to be there, a sentence each."""
    import numpy as np
    import torch

    for host in HOSTS:
        names = list(installed(host))
        if len(names) > 1:
            yield (
                f'{" and ".join(names)} share the files of {host}, and uninstalling one breaks the other: run '
                f'`pip uninstall -y {" ".join(names)}`, then install the one that you want'
            )
    try:
        torch.from_numpy(np.zeros(1))
    except RuntimeError as error:
        yield f"PyTorch {torch.__version__} cannot use numpy {np.__version__} ({error}): run `pip install 'numpy<2'`"
    if 'mmengine' in installed('mmengine') and find_spec('pkg_resources') is None:
        yield "mmengine cannot read a config with _base_ = 'package::...': run `pip install 'setuptools<82'`"
    if VERSION < COMPILES_SINCE:
        yield (
            f'torch.compile leaves our losses out on PyTorch {torch.__version__}, whose compiled values were wrong; '
            f'from {".".join(map(str, COMPILES_SINCE))} on it compiles them'
        )


def operators() -> list[str]:
    """Returns what to do about compiled operators where mmcv has none, a line each."""
    import torch

    python, cuda, original = platform.python_version(), torch.version.cuda, originals()
    wheel = published(python, torch.__version__, cuda, f'{platform.system()}-{platform.machine()}', original)
    owner, source = ('OpenMMLab', 'mmcv==2.1.0') if original else ('VBTI', 'onedl-mmcv==2.3.6')
    here = f'Python {python}, PyTorch {torch.__version__}, {f"CUDA {cuda}" if cuda else "CPU"}'
    lines = []
    replaced = [name for name in installed('mmcv') if name == 'mmcv-lite']
    first = 'pip uninstall -y mmcv-lite && ' if replaced else ''
    if wheel.command:
        doubt = '' if wheel.sure else ', though it is not known for which Pythons; the command fails if not for yours'
        lines.append(f'{owner} publishes a wheel for {here} (as of {DATE}){doubt}:')
        lines.append(f'  {first}{wheel.command}')
    else:
        lines.append(f'{owner} publishes no wheel for {here} (as of {DATE}).')
        others = [] if original else alternatives(python, cuda)
        if others:
            lines.append(f'With this Python there are wheels for {", ".join(others)}.')
    lines.append('To compile it, with a C++ compiler (and the CUDA toolkit for CUDA), about 20 minutes on two cores:')
    lines.append(f"  pip install 'setuptools<81' wheel ninja && {first}pip install --no-build-isolation {source}")
    lines.append(
        'Without: every component of mmplugins works, and mmplugins.ops has plain PyTorch operators for the detectors '
        'and segmentors of mmdet and mmseg. Slower are then non-maximum suppression, RoIAlign, deformable convolution '
        "and deformable attention (as in Mask2Former's pixel decoder); rarer operators raise an error."
    )
    return lines


def main() -> None:
    """Prints the report."""
    print('Versions')
    for name, version in versions():
        print(f'  {name:<24}{version}')
    for warning in warnings():
        print(f'\nWarning: {warning}.')
    if problem := problem_with('mmengine'):
        print(f'\nNo component can be built here: {problem}. mmplugins.functional works without it.')
        return
    print('\nComponents')
    reasons: dict[str, list[str]] = {}
    wrong: list[str] = []
    for registry_name, component, reason in components(wrong):
        print(f'  {registry_name:<18}mmplugins.{component:<26}{"cannot be built" if reason else "ok"}')
        if reason:
            reasons.setdefault(reason, []).append(component)
    for reason, names in reasons.items():
        print(f'\n{", ".join(names)} cannot be built here: {reason}.')
    for sentence in wrong:
        print(f'\n{sentence}')
    if not compiled():
        print('\nmmcv with compiled operators')
        for line in operators():
            print(f'  {line}')
