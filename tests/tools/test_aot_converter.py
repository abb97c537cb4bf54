import re
import subprocess
import sys

import pytest
import torch

from mmplugins.conversion.convert import ConversionError
from mmplugins.testing import fill_state_dict
from tests.locations import ROOT, golden_files

pytest.importorskip('mmseg', reason='AOT is built with mmseg')

from tests.models.segmentors.aot.aot_models import CONFIGS, configured_aot, state_shapes
from tools.model_converters.aot import aot_table, decoder_table, table_of, to_ours, to_released

TOOL = ROOT / 'tools/model_converters/aot.py'
each_model = pytest.mark.parametrize('name', CONFIGS)
BLOCKS = {'aott': 1, 'aotl': 3, 'r50_aotl': 3}


def small_state(num_blocks=1, backbone='ResNet-50'):
    """A released state dict with tensors of one element; those that are reordered have four."""
    return {name: torch.randn(4) for name in aot_table(backbone, num_blocks)}


def test_the_golden_lists_are_there():
    assert len(golden_files('aot_*_state_shapes.json')) == 3


@each_model
def test_both_ways(name):
    released = fill_state_dict(state_shapes(name))
    ours = to_ours(released)
    back = to_released(ours)
    assert back.keys() == released.keys()
    assert all(torch.equal(back[key], released[key]) for key in released)
    assert len(table_of(released)) == len(released)
    assert table_of(released) == table_of(ours, reverse=True)


@each_model
def test_names_and_shapes_are_the_models(name):
    ours = to_ours(fill_state_dict(state_shapes(name)))
    state = configured_aot(CONFIGS[name]).state_dict()
    assert {key: x.shape for key, x in ours.items()} == {key: x.shape for key, x in state.items()}


@pytest.mark.parametrize(
    ('config', 'backbone', 'num_blocks'),
    [('aot_s', 'MobileNetV2', 2), ('aot_b', 'MobileNetV2', 3), ('aot_swinb-l', 'Swin-B', 3)],
)
@pytest.mark.slow
def test_models_without_a_golden_list(config, backbone, num_blocks):
    state = configured_aot(config).state_dict()
    released = to_released(state)
    assert set(released) == set(aot_table(backbone, num_blocks))
    back = to_ours(released)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_some_names():
    table = aot_table('MobileNetV2', 1)
    backbone = 'network.encoder.backbone'
    assert table['encoder.features.0.0.weight'] == f'{backbone}.conv1.conv.weight'
    assert table['encoder.features.1.conv.2.bias'] == f'{backbone}.layer1.0.conv.1.bn.bias'
    assert table['encoder.features.14.conv.1.0.weight'] == f'{backbone}.layer6.0.conv.1.conv.weight'
    assert table['encoder.features.17.conv.3.running_var'] == f'{backbone}.layer7.0.conv.2.bn.running_var'
    assert table['LSTT.layers.0.norm2.weight'] == 'network.lstt.blocks.0.memory_norm.weight'
    assert aot_table('Swin-B', 1)['encoder.layers.2.blocks.17.mlp.fc2.bias'] == (
        f'{backbone}.stages.2.blocks.17.ffn.layers.1.bias'
    )
    assert decoder_table()['adapter_16x.bias'] == 'shortcuts.2.bias'


def test_patch_merging_of_swin():
    """The released order of the four neighbours, written out, against mmseg's module with converted weights."""
    from mmseg.models.utils.embed import PatchMerging

    torch.manual_seed(0)
    theirs = dict(reduction=torch.randn(6, 12), weight=torch.randn(12), bias=torch.randn(12))
    prefix = 'encoder.layers.0.downsample'
    released = small_state(backbone='Swin-B') | {
        f'{prefix}.reduction.weight': theirs['reduction'],
        f'{prefix}.norm.weight': theirs['weight'],
        f'{prefix}.norm.bias': theirs['bias'],
    }
    ours = to_ours(released)
    merging = PatchMerging(3, 6)
    start = 'network.encoder.backbone.stages.0.downsample.'
    merging.load_state_dict({k.removeprefix(start): v for k, v in ours.items() if k.startswith(start)})
    x = torch.randn(1, 4, 6, 3)  # (N, h, w, C)
    quarters = [x[:, i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
    merged = torch.nn.functional.layer_norm(torch.cat(quarters, -1), (12,), theirs['weight'], theirs['bias'])
    out, size = merging(x.flatten(1, 2), (4, 6))
    assert size == (2, 3)
    torch.testing.assert_close(out, (merged @ theirs['reduction'].T).flatten(1, 2))
    back = to_released(ours)
    assert all(torch.equal(back[name], released[name]) for name in released)


def test_unknown_and_missing_names_are_listed():
    state = small_state(2)
    state['LSTT.layers.1.linear_W.weight'] = state.pop('LSTT.layers.1.linear_V.weight')
    message = '1 not in the table:\n  LSTT.layers.1.linear_W.weight\n1 missing:\n  LSTT.layers.1.linear_V.weight'
    with pytest.raises(ConversionError, match=re.escape(message)):
        to_ours(state)
    with pytest.raises(
        ConversionError, match=r'not of the released AOT: it has none of encoder\.features\.0\.0\.weight, '
    ):
        to_ours({'fc.weight': torch.zeros(1)})
    with pytest.raises(ConversionError, match=r'not of ours, which --reverse takes: it has none of network\.encoder'):
        to_released(small_state())


def run(*args):
    return subprocess.run([sys.executable, str(TOOL), *map(str, args)], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_command_line(tmp_path):
    released = small_state()
    torch.save(
        {'state_dict': {f'module.{k}': v for k, v in released.items()}, 'optimizer': {}}, tmp_path / 'released.pth'
    )
    done = run(tmp_path / 'released.pth', tmp_path / 'new' / 'ours.pth')
    assert done.returncode == 0, done.stderr
    ours = torch.load(tmp_path / 'new' / 'ours.pth')['state_dict']
    assert f'{len(ours)} tensors written to' in done.stdout
    assert torch.equal(ours['network.lstt.mask_token'], released['LSTT.mask_token'])

    # as a run with mmengine's EMAHook stores it: averaged weights as the model's, the stepped ones beside them
    raw = {f'module.{name}': 2 * tensor for name, tensor in ours.items()} | {'steps': torch.tensor(3)}
    torch.save({'state_dict': ours, 'ema_state_dict': raw}, tmp_path / 'trained.pth')
    for options, factor in (((), 1), (('--raw',), 2)):
        done = run(tmp_path / 'trained.pth', tmp_path / 'back.pth', '--reverse', *options)
        assert done.returncode == 0, done.stderr
        back = torch.load(tmp_path / 'back.pth')['state_dict']
        assert back.keys() == released.keys()
        assert all(torch.equal(back[name], factor * tensor) for name, tensor in released.items())


@pytest.mark.slow
def test_command_line_names_what_is_wrong(tmp_path):
    torch.save({'fc.weight': torch.zeros(1)}, tmp_path / 'other.pth')
    done = run(tmp_path / 'other.pth', tmp_path / 'ours.pth')
    assert done.returncode == 1
    assert 'aot.py: error:' in done.stderr
    assert 'it has none of encoder.features.0.0.weight' in done.stderr
    assert not (tmp_path / 'ours.pth').exists()
    assert 'there is no ema_state_dict' in run(tmp_path / 'other.pth', tmp_path / 'x.pth', '--reverse', '--raw').stderr
    assert 'nowhere.pth' in run(tmp_path / 'nowhere.pth', tmp_path / 'ours.pth').stderr
