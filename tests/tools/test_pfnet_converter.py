import json
import re
import subprocess
import sys

import pytest
import torch

from mmplugins.conversion.convert import ConversionError, rename_tensors
from mmplugins.testing import fill_state_dict
from tests.locations import ROOT, golden_files
from tools.model_converters.pfnet import TABLE

TOOL = ROOT / 'tools/model_converters/pfnet.py'
each_list = pytest.mark.parametrize('path', golden_files('pfnet_state_shapes.json'))


@each_list
def test_both_ways(path):
    shapes = json.loads(path.read_text())
    released = fill_state_dict(shapes)
    ours = rename_tensors(released, TABLE)
    back = rename_tensors(ours, TABLE, reverse=True)
    assert len(ours) == len(released) == len(TABLE) == 965
    assert back.keys() == released.keys()
    assert all(torch.equal(back[name], released[name]) for name in released)


@each_list
def test_names_and_shapes_are_the_models(path):
    pytest.importorskip('mmseg', reason='PFNet is built with mmseg')
    from mmengine.config import Config

    from tests.models.decode_heads.pfnet_models import build

    config = Config.fromfile(ROOT / 'configs/_base_/models/pfnet_r50.py').model
    config.backbone.init_cfg = None
    state = build(config).state_dict()
    shapes = {TABLE[name]: tuple(shape) for name, shape in json.loads(path.read_text()).items()}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_some_names():
    assert TABLE['layer1.1.2.conv3.weight'] == 'backbone.layer1.2.conv3.weight'
    assert TABLE['cr4.1.running_mean'] == 'decode_head.reduce.3.1.running_mean'
    assert TABLE['focus3.fn.p4_dc.0.bias'] == 'decode_head.focus.2.background.dilated.3.0.bias'
    assert TABLE['focus1.bn2.weight'] == 'decode_head.focus.0.refine2.0.weight'


def test_unknown_and_missing_names_are_listed():
    state = {name: torch.zeros(1) for name in TABLE}
    state['layer5.weight'] = state.pop('focus2.alpha')
    message = (
        'not of the released model; of its tensors are\n1 not in the table:\n  layer5.weight\n1 missing:\n  focus2.al'
    )
    with pytest.raises(ConversionError, match=re.escape(message)):
        rename_tensors(state, TABLE)
    with pytest.raises(ConversionError, match='not of ours, which --reverse takes'):
        rename_tensors(state, TABLE, reverse=True)


def run(*args):
    return subprocess.run([sys.executable, str(TOOL), *map(str, args)], cwd=ROOT, capture_output=True, text=True)


@each_list
def test_command_line(path, tmp_path):
    released = fill_state_dict(json.loads(path.read_text()))
    torch.save({f'module.{name}': tensor for name, tensor in released.items()}, tmp_path / 'released.pth')
    done = run(tmp_path / 'released.pth', tmp_path / 'new' / 'ours.pth')
    assert done.returncode == 0, done.stderr
    assert '965 tensors written to' in done.stdout
    ours = torch.load(tmp_path / 'new' / 'ours.pth')
    assert torch.equal(ours['state_dict']['backbone.conv1.weight'], released['layer0.0.weight'])
    done = run(tmp_path / 'new' / 'ours.pth', tmp_path / 'back.pth', '--reverse')
    assert done.returncode == 0, done.stderr
    back = torch.load(tmp_path / 'back.pth')
    assert all(torch.equal(back[name], tensor) for name, tensor in released.items())


def test_command_line_names_what_is_wrong(tmp_path):
    torch.save({'fc.weight': torch.zeros(1)}, tmp_path / 'other.pth')
    done = run(tmp_path / 'other.pth', tmp_path / 'ours.pth')
    assert done.returncode == 1
    assert 'pfnet.py: error:' in done.stderr
    assert '1 not in the table:\n  fc.weight\n965 missing:\n' in done.stderr
    assert not (tmp_path / 'ours.pth').exists()
    assert 'nowhere.pth' in run(tmp_path / 'nowhere.pth', tmp_path / 'ours.pth').stderr
