"""What ``--cfg-options`` makes of a text."""

from argparse import ArgumentParser

import pytest
from mmengine.config import DictAction

from mmplugins.engine.cfg_options import CfgOptions, parse_value

LISTS = [
    '1,2,3',
    '[a, b, c]',
    '[(1, 2, 3), [a, b], c]',
    '(1,)',
    '[]',
    '()',
    'a,1e-3,True,None',
    '[[1,2],[3]]',
    '(0.5,)',
]


@pytest.mark.parametrize('text', [*LISTS, '1', '-2.5', 'true', 'None', 'a', '', 'a=b', '1_000', "'3'", '"[1,2]"'])
def test_as_mmengine_where_there_is_no_path(text):
    expected = DictAction._parse_iterable(text)
    assert parse_value(text) == expected
    assert type(parse_value(text)) is type(expected)


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('/data/my set', '/data/my set'),
        (' a b ', 'a b'),
        ('[my set, other set]', ['my set', 'other set']),
        ("'/data/a, b (new'", '/data/a, b (new'),
        ('["a, b", c]', ['a, b', 'c']),
        ("it's, here", ["it's", 'here']),
        ('data (1)/set', 'data (1)/set'),
    ],
)
def test_blanks_and_quotes(text, value):
    assert parse_value(text) == value


def test_a_path_that_is_there_is_no_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('my set, new', '[1,2]', '(a, b)'):
        (tmp_path / name).mkdir()
        assert parse_value(f'{tmp_path}/{name}') == f'{tmp_path}/{name}'
        assert parse_value(name) == name
    assert parse_value('my set,old') == ['my set', 'old']


@pytest.mark.parametrize(('text', 'message'), [('a(b,c', r"'\)' is missing"), ('b),c', r"'\)' closes nothing")])
def test_brackets_that_do_not_fit(text, message, capsys):
    with pytest.raises(ValueError, match=message):
        parse_value(text)
    parser = ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions)
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', f'key={text}'])
    assert f"--cfg-options key={text}: '" in capsys.readouterr().err


def test_options_given_twice_are_joined(capsys):
    parser = ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions)
    args = parser.parse_args(['--cfg-options', 'a=1', 'b=x y', '--cfg-options', 'a=2', 'c.0=z=1'])
    assert args.cfg_options == {'a': 2, 'b': 'x y', 'c.0': 'z=1'}
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'work_dir=my', 'runs/1'])
    assert "got 'runs/1'; write for example" in capsys.readouterr().err
    assert parser.parse_args([]).cfg_options is None
