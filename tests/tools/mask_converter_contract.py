"""What the converters of Mask2Former and MaskFormer must do; subclassed by the tests of each."""

import json
import pickle
import re
import subprocess
import sys

import pytest
import torch

from mmplugins.conversion.convert import ConversionError
from tests.locations import ROOT

WEIGHTS = 'criterion.empty_weight'


def released_state(path):
    """Tensors of the released names and shapes, each of another value, in no memory; class weights as released."""
    shapes = json.loads(path.read_text())
    state = {name: torch.tensor(float(i)).expand(shape) for i, (name, shape) in enumerate(shapes.items())}
    state[WEIGHTS] = torch.ones(shapes[WEIGHTS])
    state[WEIGHTS][-1] = 0.1
    return state


def is_semantic(path):
    return 'semantic' in path.name


def build_model(config, scope, num_classes, num_stuff=0):
    """The model of a base config for a number of classes, without pretrained weights."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope(scope)
    model = Config.fromfile(ROOT / 'configs/_base_/models' / config).model
    model.backbone.init_cfg = None
    if scope == 'mmseg':
        head = model.decode_head
        head.num_classes = num_classes
    else:
        head = model.panoptic_head
        for part in (head, model.panoptic_fusion_head):
            part.num_things_classes, part.num_stuff_classes = num_classes - num_stuff, num_stuff
    head.loss_cls.class_weight = [1.0] * num_classes + [0.1]
    return MODELS.build(model)


class MaskConverterContract:
    """Subclasses parametrize ``path`` over the lists of released names.

    Attributes:
        convert: The converter.
        tensors: Number of tensors of a released checkpoint.
        config: Our base config of the detector.
    """

    tensors: int
    config: str

    def test_both_ways(self, path):
        released = released_state(path)
        semantic = is_semantic(path)
        ours = self.convert(released, semantic=semantic)
        assert len(released) == self.tensors
        assert len(self.convert.table(released)) == self.tensors - 1  # all but the loss's class weights
        counters = {name for name in ours if name.endswith('num_batches_tracked')}
        assert len(counters) == 53  # of ResNet-50
        assert len(ours) == len(released) - 1 + len(counters)
        assert all(name.startswith(('backbone.', 'decode_head.' if semantic else 'panoptic_head.')) for name in ours)
        for state in (ours, {name: value for name, value in ours.items() if name not in counters}):
            back = self.convert(state, reverse=True)
            assert back.keys() == released.keys()
            assert all(torch.equal(back[name], released[name]) for name in released)

    def test_names_and_shapes_are_the_models(self, path):
        pytest.importorskip('mmdet', reason="the model is mmdet's")
        semantic = is_semantic(path)
        released = released_state(path)
        classes = len(released[WEIGHTS]) - 1
        if semantic:
            model = build_model(self.config.replace('.py', '_seg.py'), 'mmseg', classes)
        else:
            model = build_model(self.config, 'mmdet', classes, num_stuff=max(classes - 80, 0))
        ours, state = self.convert(released, semantic=semantic), model.state_dict()
        assert {name: tuple(tensor.shape) for name, tensor in ours.items()} == {
            name: tuple(tensor.shape) for name, tensor in state.items()
        }
        assert {name: tensor.dtype for name, tensor in ours.items()} == {
            name: tensor.dtype for name, tensor in state.items()
        }

    def test_other_class_weights_are_told_by_the_classifier(self, path):
        """They are a setting of the loss, not of the network: taken off whatever they are, written as released."""
        released = released_state(path)
        expected = released.pop(WEIGHTS)
        ours = self.convert(released)
        assert torch.equal(self.convert(ours, reverse=True)[WEIGHTS], expected)
        assert self.convert({**released, WEIGHTS: torch.rand(3)}).keys() == ours.keys()

    def test_early_names(self, path):
        released = released_state(path)
        early = {
            name.replace('pixel_decoder.', '').replace('query_feat', 'static_query'): value
            for name, value in released.items()
        }
        assert early.keys() != released.keys()
        ours = self.convert(released)
        assert all(torch.equal(value, ours[name]) for name, value in self.convert(early).items())

    def test_unknown_and_missing_names_are_listed(self, path):
        released = released_state(path)
        state = dict(released)
        state['backbone.patch_embed.weight'] = state.pop('sem_seg_head.predictor.query_embed.weight')
        message = (
            'not of the released model; of its tensors are\n1 not in the table:\n  backbone.patch_embed.weight\n'
            '1 missing:\n  sem_seg_head.predictor.query_embed.weight'
        )
        with pytest.raises(ConversionError, match=re.escape(message)):
            self.convert(state)
        with pytest.raises(ConversionError, match='not of ours, which --reverse takes'):
            self.convert(released, reverse=True)
        ours = self.convert(released)
        with pytest.raises(ConversionError, match='not of the released model'):
            self.convert(ours)
        del ours['backbone.bn1.num_batches_tracked']
        with pytest.raises(ConversionError, match=re.escape('1 missing:\n  backbone.bn1.num_batches_tracked')):
            self.convert(ours, reverse=True)

    def test_deeper_backbone(self, path):
        released = released_state(path)
        for block in range(6, 23):
            for name in [name for name in released if name.startswith('backbone.res4.5.')]:
                released[name.replace('.5.', f'.{block}.', 1)] = released[name]
        ours = self.convert(released)
        assert 'backbone.layer3.22.conv3.weight' in ours
        assert self.convert(ours, reverse=True).keys() == released.keys()


def check_command_line(tool, tensors, path, tmp_path):
    """Converts a pickle there and back; ``tensors``: of a converted checkpoint."""
    semantic = is_semantic(path)
    released = {name: value.flatten()[-200:].clone() for name, value in released_state(path).items()}  # small files
    arrays = {name: value.numpy() for name, value in released.items()}
    (tmp_path / 'model.pkl').write_bytes(pickle.dumps({'model': arrays, '__author__': 'someone'}))
    done = _run(tool, tmp_path / 'model.pkl', tmp_path / 'new/ours.pth', *(['--semantic'] if semantic else []))
    assert done.returncode == 0, done.stderr
    assert f'{tensors} tensors written to' in done.stdout
    ours = torch.load(tmp_path / 'new/ours.pth')['state_dict']
    assert ('decode_head.cls_embed.bias' if semantic else 'panoptic_head.cls_embed.bias') in ours
    done = _run(tool, tmp_path / 'new/ours.pth', tmp_path / 'back.pth', '--reverse')
    assert done.returncode == 0, done.stderr
    back = torch.load(tmp_path / 'back.pth')['model']
    assert all(torch.equal(back[name], tensor) for name, tensor in released.items())


def _run(tool, *args):
    command = [sys.executable, str(ROOT / tool), *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
