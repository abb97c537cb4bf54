import pytest
import torch

from mmplugins.engine.convert import CONV, key_table, read_tensors, rename_tensors, rule


def test_rules_spell_out_names():
    table = key_table(
        rule('a{i}.{k}', 'b.{i}.{k}', CONV, i={1: 0, 2: 1}, k=('x', 'y')),
        rule('gamma', 'gate'),
    )
    assert len(table) == 9
    assert table['a2.x.bias'] == 'b.1.x.bias'
    assert table['gamma'] == 'gate'


def test_a_name_given_twice_raises():
    with pytest.raises(ValueError, match='gives these our names twice: c'):
        key_table(rule('a', 'c'), rule('b', 'c'))
    with pytest.raises(ValueError, match='gives these released names twice: a'):
        key_table(rule('a', 'b'), rule('a', 'c'))


def test_tensors_keep_their_values_and_take_the_tables_order():
    table = key_table(rule('a', 'x'), rule('b', 'y'))
    state = {'b': torch.ones(2), 'a': torch.zeros(1)}
    renamed = rename_tensors(state, table)
    assert list(renamed) == ['x', 'y']
    assert renamed['y'] is state['b']


@pytest.mark.parametrize('key', [None, 'state_dict', 'model'])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_checkpoints_are_unwrapped(tmp_path, key, prefix):
    state = {f'{prefix}a': torch.ones(2)}
    torch.save(state if key is None else {key: state, 'epoch': 3}, tmp_path / 'file.pth')
    assert list(read_tensors(tmp_path / 'file.pth')) == ['a']
