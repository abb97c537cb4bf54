"""The table of published wheels, asked for combinations by hand."""

import pytest

from mmplugins.wheels import WHEELS, alternatives, published

LINUX = 'Linux-x86_64'


def test_a_wheel_of_the_fork():
    wheel = published('3.12.1', '2.8.0+cu128', '12.8', LINUX)
    assert wheel.sure
    assert wheel.command == (
        'pip install --only-binary onedl-mmcv onedl-mmcv==2.3.7 '
        '-f https://mmwheels.onedl.ai/cu128-torch280/simple/onedl-mmcv/index.html'
    )
    assert published('3.10', '2.4.0', None, LINUX).command.endswith('cpu-torch241/simple/onedl-mmcv/index.html')


def test_a_wheel_of_unknown_pythons():
    wheel = published('3.11.7', '2.9.1', '12.9', LINUX)
    assert 'cu129-torch290' in wheel.command
    assert not wheel.sure


@pytest.mark.parametrize(
    'combination',
    [
        ('3.13', '2.4.1', None, LINUX),  # built for 3.10 to 3.12
        ('3.11', '2.13.0+cpu', None, LINUX),
        ('3.11', '2.8.0', '12.1', LINUX),
        ('3.11', '2.8.0', None, 'Windows-AMD64'),
        ('3.11', '2.8.0', None, 'Linux-aarch64'),
    ],
)
def test_no_wheel(combination):
    assert published(*combination).command is None


def test_openmmlabs_own():
    wheel = published('3.10.13', '2.1.2+cu121', '12.1', LINUX, original=True)
    assert 'mmcv==2.1.0 -f https://download.openmmlab.com/mmcv/dist/cu121/torch2.1/index.html' in wheel.command
    assert published('3.10', '2.8.0', '12.8', LINUX, original=True).command is None
    assert published('3.13', '2.1.2', '12.1', LINUX, original=True).command is None


def test_alternatives():
    assert alternatives('3.13.0', None) == ['PyTorch 2.8.0 (CPU)', 'PyTorch 2.12.0 (CPU)']
    assert alternatives('3.11', '13.0')[0] == 'PyTorch 2.4.1 (CUDA 11.8)'
    assert alternatives('3.9', None) == []


def test_every_entry_is_found():
    for (release, device, torch), pythons in WHEELS.items():
        cuda = None if device == 'cpu' else f'{device[2:4]}.{device[4:]}'
        for python in pythons or ('3.10',):
            wheel = published(python, torch, cuda, LINUX)
            assert release in wheel.command
            assert f'{device}-torch{torch.replace(".", "")}/' in wheel.command
