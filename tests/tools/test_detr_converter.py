import json
import re
import subprocess
import sys

import pytest
import torch

from mmplugins.conversion.convert import ConversionError
from mmplugins.hosts import problem_with
from mmplugins.testing import fill_state_dict
from tests.locations import ROOT, golden_files
from tools.model_converters.detr import KEPT_OUTPUTS, TABLES, UNUSED_IDS, convert, counters, depth_of

TOOL = ROOT / 'tools/model_converters/detr.py'
TENSORS = {50: 458, 101: 713}
# The 80 ids of COCO's categories, from the data set's annotation files
CATEGORY_IDS = [
    *(*range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83)),
    *range(84, 91),
]
each_list = pytest.mark.parametrize('path', golden_files('detr_r*_state_shapes.json'))


def shapes_of(path):
    return json.loads(path.read_text())


def depth(path):
    return 101 if 'r101' in path.name else 50


def test_there_are_lists():
    assert {param.id for param in golden_files('detr_r*_state_shapes.json')} >= {
        'detr_r50_state_shapes',
        'detr_r101_state_shapes',
    }


@each_list
def test_both_ways(path):
    released = fill_state_dict(shapes_of(path))
    ours = convert(released)
    assert depth_of(released) == depth_of(ours) == depth(path)
    assert released.keys() == TABLES[depth(path)].keys()
    assert len(released) == TENSORS[depth(path)]
    assert len(ours) == len(released) + len(counters(depth(path)))
    for state in (ours, {name: value for name, value in ours.items() if not name.endswith('num_batches_tracked')}):
        back = convert(state, reverse=True)
        assert back.keys() == released.keys()
        assert all(torch.equal(back[name], released[name]) for name in released)


@each_list
@pytest.mark.parametrize('coco', [False, True])
def test_names_and_shapes_are_the_models(path, coco):
    if problem := problem_with('mmdet'):
        pytest.skip(f"the model is mmdet's DETR: {problem}")
    from tests.models.detr_models import build

    ours = convert(fill_state_dict(shapes_of(path)), coco=coco)
    state = build(80 if coco else 91, depth=depth(path)).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in ours.items()} == {
        name: tuple(tensor.shape) for name, tensor in state.items()
    }
    assert {name: tensor.dtype for name, tensor in ours.items()} == {
        name: tensor.dtype for name, tensor in state.items()
    }


def test_some_names():
    table = TABLES[50]
    assert table['backbone.0.body.layer3.5.bn2.running_var'] == 'backbone.layer3.5.bn2.running_var'
    assert (
        table['transformer.encoder.layers.4.self_attn.in_proj_weight']
        == 'encoder.layers.4.self_attn.attn.in_proj_weight'
    )
    assert (
        table['transformer.decoder.layers.0.multihead_attn.out_proj.bias']
        == 'decoder.layers.0.cross_attn.attn.out_proj.bias'
    )
    assert table['transformer.decoder.layers.5.norm3.weight'] == 'decoder.layers.5.norms.2.weight'
    assert table['bbox_embed.layers.1.weight'] == 'bbox_head.reg_ffn.layers.1.weight'


def test_coco_keeps_the_outputs_of_its_categories():
    assert [*CATEGORY_IDS, 91] == KEPT_OUTPUTS
    assert len(CATEGORY_IDS) == 80
    assert set(range(91)) - set(CATEGORY_IDS) == UNUSED_IDS


@pytest.fixture(scope='module')
def released():
    return fill_state_dict(shapes_of(golden_files('detr_r50_state_shapes.json')[0].values[0]))


def test_coco_both_ways(released):
    ours = convert(released, coco=True)
    weight = ours['bbox_head.fc_cls.weight']
    assert weight.shape == (81, 256)
    assert torch.equal(weight[0], released['class_embed.weight'][1])  # person
    assert torch.equal(weight[79], released['class_embed.weight'][90])  # toothbrush
    assert torch.equal(weight[80], released['class_embed.weight'][91])  # no-object
    back = convert(ours, reverse=True, coco=True)
    again = convert(back, coco=True)
    assert all(torch.equal(again[name], ours[name]) for name in ours)
    changed = [name for name in released if not torch.equal(back[name], released[name])]
    assert changed == ['class_embed.weight', 'class_embed.bias']
    # an id without a category has no probability, so that the way back gives our network's scores
    hidden = torch.randn(5, 256)
    probabilities = (hidden @ back['class_embed.weight'].T + back['class_embed.bias']).softmax(-1)
    assert probabilities[:, sorted(UNUSED_IDS)].max() == 0
    mine = (hidden @ weight.T + ours['bbox_head.fc_cls.bias']).softmax(-1)
    torch.testing.assert_close(probabilities[:, KEPT_OUTPUTS], mine)


def test_unknown_and_missing_names_are_listed(released):
    state = dict(released)
    state['mask_head.lay1.weight'] = state.pop('query_embed.weight')
    message = (
        'not of the released model; of its tensors are\n1 not in the table:\n  mask_head.lay1.weight\n'
        '1 missing:\n  query_embed.weight'
    )
    with pytest.raises(ConversionError, match=re.escape(message)):
        convert(state)
    with pytest.raises(ConversionError, match='not of ours, which --reverse takes'):
        convert(released, reverse=True)
    half = convert(released)
    del half['backbone.bn1.num_batches_tracked']
    with pytest.raises(ConversionError, match=re.escape('1 missing:\n  backbone.bn1.num_batches_tracked')):
        convert(half, reverse=True)


def test_other_numbers_of_classes(released):
    with pytest.raises(
        ConversionError, match=re.escape('class_embed.weight should have 81 rows, and has the shape (92,')
    ):
        convert(convert(released), reverse=True, coco=True)
    state = {name: value[:4] if name.startswith('class_embed') else value for name, value in released.items()}
    assert convert(state)['bbox_head.fc_cls.bias'].shape == (4,)
    with pytest.raises(
        ConversionError, match=re.escape('fc_cls.weight should have 92 rows, and has the shape (4, 256)')
    ):
        convert(state, coco=True)


def run(*args):
    return subprocess.run([sys.executable, str(TOOL), *map(str, args)], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize('coco', [False, True])
def test_command_line(released, tmp_path, coco):
    flags = ['--coco'] if coco else []
    torch.save({'model': released, 'epoch': 499}, tmp_path / 'released.pth')
    done = run(tmp_path / 'released.pth', tmp_path / 'new' / 'ours.pth', *flags)
    assert done.returncode == 0, done.stderr
    assert '511 tensors written to' in done.stdout
    ours = torch.load(tmp_path / 'new' / 'ours.pth')
    assert ours['state_dict']['bbox_head.fc_cls.bias'].shape == ((81,) if coco else (92,))
    done = run(tmp_path / 'new' / 'ours.pth', tmp_path / 'back.pth', '--reverse', *flags)
    assert done.returncode == 0, done.stderr
    back = torch.load(tmp_path / 'back.pth')['model']
    assert back.keys() == released.keys()
    if not coco:
        assert all(torch.equal(back[name], tensor) for name, tensor in released.items())


def test_command_line_names_what_is_wrong(tmp_path):
    torch.save({'model': {'fc.weight': torch.zeros(1)}}, tmp_path / 'other.pth')
    done = run(tmp_path / 'other.pth', tmp_path / 'ours.pth')
    assert done.returncode == 1
    assert 'detr.py: error:' in done.stderr
    assert '1 not in the table:\n  fc.weight\n458 missing:\n' in done.stderr
    assert not (tmp_path / 'ours.pth').exists()
