"""Configs that mix the two styles of mmengine, and what is said of them."""

import pytest
from mmengine.config import Config

from mmplugins.engine.config_styles import ConfigError, read_config
from mmplugins.engine.launch import UsageError, load_config
from tests.engine.test_launch import arguments

READ = 'from mmengine.config import read_base\nwith read_base():\n    from .{} import *\n'


@pytest.fixture
def files(tmp_path):
    """Writes files by name; gives the path of the last one."""

    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f'{name}.py').write_text(text)
        return str(tmp_path / f'{name}.py')

    return write


def fails(match, path):
    with pytest.raises(ConfigError, match=match):
        read_config(path)


def test_one_style_is_read(files):
    assert read_config(files(base='lr = 1\n', mine="_base_ = './base.py'\nsteps = 2\n")).to_dict() == dict(
        lr=1, steps=2
    )
    cfg = read_config(files(base='lr = 1\n', mine=READ.format('base') + 'steps = 2\n'))
    assert (cfg.lr, cfg.steps) == (1, 2)


def test_text_config_of_a_pure_python_one(files):
    path = files(plain='lr = 1\n', base=READ.format('plain'), mine="_base_ = './base.py'\n")
    fails(r'mine\.py inherits with _base_, and .*base\.py is a pure-Python config.*as those in configs/', path)
    with pytest.raises(UsageError, match=r'must be of one style'):
        load_config(arguments(path))


def test_pure_python_config_of_a_text_one(files):
    path = files(plain='lr = 1\n', base="_base_ = './plain.py'\n", mine=READ.format('base'))
    fails(r'mine\.py inherits with read_base, and a config that it imports inherits with _base_', path)


@pytest.mark.parametrize('first', ['_base_', 'read_base'])
def test_both_in_one_file(files, first):
    """mmengine itself leaves one of them out without a word."""
    parts = ["_base_ = './base.py'\n", READ.format('other')]
    texts = dict(base='lr = 1\n', other='steps = 2\n')
    path = files(**texts, mine=''.join(parts if first == '_base_' else reversed(parts)))
    fails(r'has both _base_ and read_base, of which one would be left out', path)


def test_module_that_is_not_there(files):
    fails(
        r'nowhere\.py not found.*modules of read_base are files beside the config', files(mine=READ.format('nowhere'))
    )


def test_name_that_is_no_module(files):
    path = files(mine=READ.format('psp-r18'))
    fails(r'mine\.py, line 3: .*from \.psp-r18 import \*; read_base imports modules.*rename the file', path)


def test_other_syntax_errors(files):
    fails(r'mine\.py, line 1: (?!.*read_base)', files(mine='lr = (\n'))


def test_other_errors_stay(files, monkeypatch):
    def fail(path):
        raise RuntimeError('another')

    monkeypatch.setattr(Config, 'fromfile', fail)
    with pytest.raises(RuntimeError, match='another'):
        read_config(files(mine='lr = 1\n'))
