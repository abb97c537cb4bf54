import pickle
import resource
from argparse import Namespace

import pytest
import torch

from mmplugins.conversion.convert import (
    CONV,
    NORM,
    ConversionError,
    Selection,
    batch_counters,
    key_table,
    read_tensors,
    rename_tensors,
    rule,
    run_converter,
)


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


def test_constants_are_added_and_taken_off():
    table, constants = key_table(rule('a', 'x')), {'n': torch.tensor(0)}
    ours = rename_tensors({'a': torch.ones(1)}, table, constants=constants)
    assert list(ours) == ['x', 'n']
    assert list(rename_tensors({**ours, 'n': torch.tensor(7)}, table, True, constants)) == ['a']
    assert list(rename_tensors({'x': ours['x']}, table, True, constants)) == ['a']
    two = {**constants, 'm': torch.tensor(0)}
    with pytest.raises(ConversionError, match='1 missing:\n  m'):
        rename_tensors(ours, table, True, two)


def test_extras_are_taken_off_and_added():
    table = key_table(rule('a', 'x'))
    extras = {'weights': torch.ones(2)}
    for state in ({'a': torch.zeros(1), 'weights': torch.rand(5)}, {'a': torch.zeros(1)}):
        assert list(rename_tensors(state, table, extras=extras)) == ['x']
    back = rename_tensors({'x': torch.zeros(1)}, table, reverse=True, extras=extras)
    assert list(back) == ['a', 'weights']
    assert torch.equal(back['weights'], torch.ones(2))
    with pytest.raises(ConversionError, match='1 not in the table:\n  weights'):
        rename_tensors({'x': torch.zeros(1), 'weights': torch.ones(2)}, table, reverse=True, extras=extras)


def test_batch_counters():
    table = key_table(rule('a', 'n.1', NORM), rule('b', 'm', CONV))
    assert list(batch_counters(table)) == ['n.1.num_batches_tracked']
    assert batch_counters(table)['n.1.num_batches_tracked'].dtype == torch.int64


def test_a_selection_keeps_rows_and_puts_them_back():
    table, selections = key_table(rule('a', 'x')), {'x': Selection((2, 0), 4, fill=-1.0)}
    released = {'a': torch.arange(8.0).reshape(4, 2)}
    ours = rename_tensors(released, table, selections=selections)
    assert ours['x'].tolist() == [[4, 5], [0, 1]]
    back = rename_tensors(ours, table, True, selections=selections)
    assert back['a'].tolist() == [[0, 1], [-1, -1], [4, 5], [-1, -1]]
    with pytest.raises(ConversionError, match=r'x should have 4 rows, and has the shape \(3, 2\)'):
        rename_tensors({'a': torch.zeros(3, 2)}, table, selections=selections)
    with pytest.raises(ConversionError, match=r'a should have 2 rows, and has the shape \(\)'):
        rename_tensors({'x': torch.tensor(0.0)}, table, True, selections=selections)


def test_command_line_with_a_function_and_a_key(tmp_path, capsys):
    def convert(state, args):
        return {name + ('.back' if args.reverse else ''): value + args.one for name, value in state.items()}

    torch.save({'a': torch.zeros(1)}, tmp_path / 'src.pth')
    paths = [str(tmp_path / name) for name in ('src.pth', 'ours.pth', 'back.pth')]
    run_converter(convert, 'text', [*paths[:2], '--one'], {'--one': 'adds one'}, 'model')
    assert torch.load(paths[1]) == {'state_dict': {'a': torch.ones(1)}, 'meta': {}}
    run_converter(convert, 'text', [*paths[1:], '--reverse'], {'--one': 'adds one'}, 'model')
    assert torch.load(paths[2]) == {'model': {'a.back': torch.ones(1)}}
    assert '1 tensors written to' in capsys.readouterr().out


def test_a_checkpoint_that_cannot_be_written(tmp_path):
    """What was there stays; one line says why, and no half a file is left."""
    torch.save({'a': torch.zeros(20000)}, tmp_path / 'src.pth')
    (tmp_path / 'ours.pth').write_text('before')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, hard))  # of a file; it stands for a full disk
    expected = r': error: the checkpoint .*ours\.pth of 0\.1 MB cannot be written \(File too large\)$'
    try:
        with pytest.raises(SystemExit, match=expected):
            run_converter({'a': 'x'}, 'text', [str(tmp_path / 'src.pth'), str(tmp_path / 'ours.pth')])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / 'ours.pth').read_text() == 'before'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['ours.pth', 'src.pth']


class Code:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return print, ('code was run',)


def test_files_that_are_no_checkpoints_are_refused(tmp_path, capsys):
    torch.save({'a': torch.ones(2)}, tmp_path / 'whole.pth')
    whole = (tmp_path / 'whole.pth').read_bytes()
    files = {'empty': b'', 'text': b'hello', 'cut off': whole[: len(whole) // 2]}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConversionError, match=r'no checkpoint of torch'):
            read_tensors(tmp_path / name)
    torch.save({'model': {'a': torch.ones(2)}, 'args': Code()}, tmp_path / 'code.pth')
    with pytest.raises(ConversionError, match=r'it is not read, as it holds more than tensors .* save its state dict'):
        read_tensors(tmp_path / 'code.pth')
    (tmp_path / 'code.pkl').write_bytes(pickle.dumps({'model': Code()}))
    with pytest.raises(ConversionError, match='no checkpoint of torch'):
        read_tensors(tmp_path / 'code.pkl')
    assert 'code was run' not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ConversionError, match='expected a dict of tensors by name, got list'):
        read_tensors(tmp_path / 'list.pth')
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / 'gone.pth')


@pytest.mark.skipif(not hasattr(torch.serialization, 'safe_globals'), reason='PyTorch before 2.5 allows no class')
def test_arguments_of_a_training_do_no_harm(tmp_path):
    torch.save({'model': {'a': torch.ones(2)}, 'args': Namespace(lr=1e-4)}, tmp_path / 'detr.pth')
    assert list(read_tensors(tmp_path / 'detr.pth')) == ['a']
