import pickle
import re

import numpy as np
import pytest
import torch

from mmplugins.conversion.convert import ConversionError, key_table
from mmplugins.conversion.detectron2 import modern_names, read_released, resnet_rules


@pytest.mark.parametrize(('depth', 'tensors'), [(50, 265), (101, 520)])
def test_resnet(depth, tensors):
    table = key_table(*resnet_rules(depth))
    assert len(table) == tensors  # 53 or 104 convolutions, and four tensors of each one's norm
    assert table['backbone.stem.conv1.norm.running_mean'] == 'backbone.bn1.running_mean'
    assert table['backbone.res2.0.shortcut.weight'] == 'backbone.layer1.0.downsample.0.weight'
    assert table['backbone.res5.2.conv3.norm.weight'] == 'backbone.layer4.2.bn3.weight'


def test_modern_names_leave_others_alone():
    state = {'backbone.a': 0, 'sem_seg_head.predictor.b': 1, 'sem_seg_head.layer_1.c': 2, 'criterion.d': 3}
    assert modern_names(state) == {
        'backbone.a': 0,
        'sem_seg_head.predictor.b': 1,
        'sem_seg_head.pixel_decoder.layer_1.c': 2,
        'criterion.d': 3,
    }
    modern = modern_names(state)
    assert modern_names(modern) == modern


@pytest.mark.parametrize('protocol', [2, 4, 5])
@pytest.mark.parametrize('key', ['model', None])
def test_pickled_arrays(tmp_path, protocol, key):
    arrays = {'a': np.arange(6, dtype=np.float32).reshape(2, 3), 'b': np.float32(2.5)}
    content = arrays if key is None else {key: arrays, '__author__': 'someone', 'matching_heuristics': True}
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps(content, protocol=protocol))
    state = read_released(tmp_path / 'x.pkl')
    assert torch.equal(state['a'], torch.arange(6.0).view(2, 3))
    assert state['b'].shape == ()
    assert state['b'] == 2.5
    state['a'].zero_()  # writable


@pytest.mark.parametrize('core', [b'numpy.core', b'numpy._core'])
def test_a_pickle_with_the_names_of_numpy_1_and_2(tmp_path, core):
    """The model zoo's files have those of numpy 1; either numpy reads both."""
    content = pickle.dumps({'model': {'a': np.ones(3)}}, protocol=2)
    (tmp_path / 'x.pkl').write_bytes(re.sub(rb'numpy\._?core', core, content))
    assert read_released(tmp_path / 'x.pkl')['a'].tolist() == [1, 1, 1]


class Evil:
    def __reduce__(self):
        return print, ('ran',)


def test_a_pickle_cannot_run_code(tmp_path, capsys):
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps({'model': {'a': Evil()}}))
    with pytest.raises(ConversionError, match=r'asks for builtins\.print, which no checkpoint of arrays needs'):
        read_released(tmp_path / 'x.pkl')
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('content', [{'model': {'a': 'text'}}, {'model': {}}, [1, 2]])
def test_a_pickle_of_something_else(tmp_path, content):
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps(content))
    with pytest.raises(ConversionError, match='expected a pickled dict of numpy arrays by name'):
        read_released(tmp_path / 'x.pkl')


def test_broken_and_missing_files(tmp_path):
    (tmp_path / 'x.pkl').write_bytes(b'hello')
    with pytest.raises(ConversionError, match='it is no pickle'):
        read_released(tmp_path / 'x.pkl')
    with pytest.raises(FileNotFoundError):
        read_released(tmp_path / 'none.pkl')


def test_torch_files_are_read_too(tmp_path):
    torch.save({'model': {'a': torch.ones(2)}}, tmp_path / 'x.pth')
    assert read_released(tmp_path / 'x.pth')['a'].tolist() == [1, 1]
