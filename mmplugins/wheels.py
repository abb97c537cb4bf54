"""Which wheels of mmcv with compiled operators are published, so that nobody compiles in vain or need not.

Read on 2026-11-28 from the fork's repository, VBTI-development/onedl-mmcv: ``ci/build-matrix.json`` (what release 2.3.7
is built for) and ``docs/en/_static/version.json`` (what lay in its index, without the Pythons). PyPI has the sources
alone, up to 2.3.6. The index itself was not asked: a command that finds no wheel says so and installs nothing.

OpenMMLab's own index ends with mmcv 2.2.0 for PyTorch 2.4, and mmcv 2.1.0, the newest that mmsegmentation 1.2.2 and
mmdet 3.3.0 take, is there for PyTorch 2.1.
"""

from typing import NamedTuple

DATE = '2026-11-28'
INDEX = 'https://mmwheels.onedl.ai'
_ALL = ('3.10', '3.11', '3.12', '3.13')
# Release of the fork, device, PyTorch -> Pythons; none where the source does not tell them. Linux on x86_64.
WHEELS = {
    ('2.3.7', 'cpu', '2.4.1'): _ALL[:3],
    ('2.3.7', 'cpu', '2.5.1'): (),
    ('2.3.7', 'cpu', '2.8.0'): _ALL,
    ('2.3.7', 'cpu', '2.9.0'): (),
    ('2.3.7', 'cpu', '2.10.0'): (),
    ('2.3.7', 'cpu', '2.12.0'): _ALL,
    ('2.3.7', 'cu118', '2.4.1'): _ALL[:3],
    ('2.3.6', 'cu124', '2.5.1'): (),
    ('2.3.7', 'cu126', '2.8.0'): _ALL,
    ('2.3.7', 'cu126', '2.12.0'): _ALL,
    ('2.3.7', 'cu128', '2.8.0'): _ALL,
    ('2.3.7', 'cu129', '2.8.0'): (),
    ('2.3.7', 'cu129', '2.9.0'): (),
    ('2.3.7', 'cu129', '2.10.0'): (),
    ('2.3.7', 'cu130', '2.12.0'): _ALL,
}
# The same of OpenMMLab: mmcv 2.1.0, the CUDA versions of PyTorch 2.1.
ORIGINAL_INDEX = 'https://download.openmmlab.com/mmcv/dist'
ORIGINAL = {('cpu', '2.1'), ('cu118', '2.1'), ('cu121', '2.1')}


class Wheel(NamedTuple):
    """What is published for a combination of versions.

    Attributes:
        command: The command that installs the wheel; None if there is none.
        sure: Whether the source names this Python.
    """

    command: str | None
    sure: bool = True


def published(python: str, torch: str, cuda: str | None, platform: str, original: bool = False) -> Wheel:
    """Looks up the wheel of mmcv with compiled operators for a combination of versions.

    Args:
        python: Version of Python, as '3.11' or '3.11.7'.
        torch: Version of PyTorch, as '2.8.0+cu128'.
        cuda: Version of CUDA that PyTorch was built for, as '12.8'; None for the CPU.
        platform: As 'Linux-x86_64': the system's name and the machine.
        original: Look for OpenMMLab's own mmcv instead of the fork's.

    Returns:
        The command, if there is a wheel.
    """
    if platform != 'Linux-x86_64':
        return Wheel(None)
    python, minor = _minor(python), _minor(torch)
    device = 'cpu' if cuda is None else f'cu{cuda.replace(".", "")}'
    if original:
        if (device, minor) not in ORIGINAL or python not in _ALL[:2]:
            return Wheel(None)
        page = f'{ORIGINAL_INDEX}/{device}/torch{minor}/index.html'
        return Wheel(f'pip install --only-binary mmcv mmcv==2.1.0 -f {page}', sure=False)
    for (release, built_device, built), pythons in WHEELS.items():
        if (built_device, _minor(built)) == (device, minor) and (python in pythons or not pythons):
            page = f'{INDEX}/{device}-torch{built.replace(".", "")}/simple/onedl-mmcv/index.html'
            return Wheel(f'pip install --only-binary onedl-mmcv onedl-mmcv=={release} -f {page}', sure=bool(pythons))
    return Wheel(None)


def alternatives(python: str, cuda: str | None) -> list[str]:
    """Returns the versions of PyTorch that the fork surely has a wheel for, with this Python, on the CPU or on CUDA.

    Args:
        python: Version of Python.
        cuda: Version of CUDA that PyTorch was built for, or None; any CUDA counts if it is not None.
    """
    found = [
        f'PyTorch {torch} ({"CPU" if device == "cpu" else f"CUDA {device[2:4]}.{device[4:]}"})'
        for (_, device, torch), pythons in WHEELS.items()
        if _minor(python) in pythons and (device == 'cpu') == (cuda is None)
    ]
    return found


def _minor(version: str) -> str:
    return '.'.join(version.split('+')[0].split('.')[:2])
