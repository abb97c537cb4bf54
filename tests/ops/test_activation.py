"""Who provides ``mmcv._ext``, what it holds, and how other people's programs get it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import mmcv
import pytest
import torch

import mmplugins.ops
from mmplugins.hosts import HOSTS
from mmplugins.ops import activate, compiled
from mmplugins.ops.extension import OPERATORS, missing
from mmplugins.with_ops import main
from tests.locations import ROOT


def python(*arguments, cwd, path=()):
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([*map(str, path), str(ROOT)])}
    return subprocess.run(
        [sys.executable, '-W', 'ignore', *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def output_of(*arguments, cwd, path=()):
    done = python(*arguments, cwd=cwd, path=path)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_importing_mmplugins_provides_the_module_or_leaves_the_compiled_one(tmp_path):
    code = 'import mmplugins, mmcv.ops, mmcv._ext; print(mmcv._ext.__spec__.origin)'
    origin = output_of('-c', code, cwd=tmp_path)
    assert origin.endswith('.so') if compiled() else origin == 'mmplugins.ops'


def test_a_module_that_is_installed_is_never_replaced(tmp_path):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv/__init__.py').write_text('')
    (tmp_path / 'mmcv/_ext.py').write_text('OURS = False')
    code = 'import mmplugins, mmcv._ext; from mmplugins.ops import compiled; print(mmcv._ext.OURS, compiled())'
    assert output_of('-c', code, cwd=tmp_path, path=[tmp_path]) == 'False False'


def test_without_mmcv_there_is_none(tmp_path):
    code = (
        'import sys; sys.modules["mmcv"] = None\n'
        'import mmplugins.ops; print(mmplugins.ops.compiled())\n'
        'try: import mmcv._ext\nexcept ImportError: print("none")'
    )
    assert output_of('-c', code, cwd=tmp_path).split() == ['False', 'none']


def test_the_finder_is_last_and_there_once(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [*sys.meta_path[:2]])
    activate()
    activate()
    (finder,) = sys.meta_path[2:]
    assert isinstance(finder, mmplugins.ops._PlainFinder)
    assert finder.find_spec('mmcv._ext').origin == 'mmplugins.ops'
    assert finder.find_spec('mmcv.ops') is None


def asked_for():
    """Names of the operators that mmcv's modules load."""
    names = set()
    for path in (Path(mmcv.__file__).parent / 'ops').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'load_ext':
                names.update(ast.literal_eval(node.args[1]))
    return names


def test_operators_have_the_names_that_mmcv_asks_for():
    names = asked_for()
    assert len(names) > 100
    assert set(OPERATORS) <= names
    for name in names - set(OPERATORS):
        with pytest.raises(NotImplementedError, match=f'operator {name} is not compiled here'):
            missing(name)(torch.zeros(1), size=1)


def test_the_sentence_names_both_ways_out():
    with pytest.raises(NotImplementedError) as raised:
        missing('nms_rotated')()
    assert str(raised.value) == (
        "mmcv's operator nms_rotated is not compiled here and mmplugins has no plain one: install mmcv with compiled "
        f'operators for PyTorch {torch.__version__} (`{HOSTS["mmcv"].install}`), or use a model without nms_rotated.'
    )


def test_missing_is_no_answer_to_the_names_of_python():
    with pytest.raises(AttributeError, match='__path__'):
        missing('__path__')


def test_mmcv_describes_its_environment(tmp_path):
    code = 'import mmplugins; from mmcv.utils import collect_env; print(collect_env()["MMCV Compiler"])'
    said = output_of('-c', code, cwd=tmp_path).splitlines()[-1]
    assert said == ('none (plain operators of mmplugins)' if not compiled() else said)


TOOL = """
import sys
from helper import NAME
import mmcv.ops
print(__name__, sys.argv[1:], NAME)
"""


def test_with_ops_runs_a_program_as_python_would(tmp_path):
    tools, elsewhere = tmp_path / 'tools', tmp_path / 'elsewhere'
    tools.mkdir()
    elsewhere.mkdir()
    (tools / 'tool.py').write_text(TOOL)
    (tools / 'helper.py').write_text("NAME = 'beside it'")
    said = output_of('-m', 'mmplugins.with_ops', tools / 'tool.py', '--a', 'b', cwd=elsewhere)
    assert said.splitlines()[-1] == "__main__ ['--a', 'b'] beside it"


def test_with_ops_runs_a_module(tmp_path):
    (tmp_path / 'tool.py').write_text(TOOL)
    (tmp_path / 'helper.py').write_text("NAME = 'beside it'")
    said = output_of('-m', 'mmplugins.with_ops', '-m', 'tool', 'x', cwd=tmp_path)
    assert said.splitlines()[-1] == "__main__ ['x'] beside it"


def test_with_ops_passes_the_exit_code_on(tmp_path):
    (tmp_path / 'tool.py').write_text('raise SystemExit(3)')
    assert python('-m', 'mmplugins.with_ops', 'tool.py', cwd=tmp_path).returncode == 3


@pytest.mark.parametrize(
    ('arguments', 'problem'),
    [([], 'no program given'), (['none.py'], 'there is no file none.py'), (['-m'], '-m needs the name of a module')],
)
def test_with_ops_says_what_is_wrong(arguments, problem):
    with pytest.raises(SystemExit, match=f'{problem}\nusage: python -m mmplugins.with_ops'):
        main(arguments)


def test_with_ops_has_help(capsys):
    main(['--help'])
    assert 'torchrun' in capsys.readouterr().out
