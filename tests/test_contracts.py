"""Every registered component has a test, says what it takes and gives, and is used by a config or a tool."""

import ast
import doctest
import importlib
import inspect
import io
import pkgutil
import re
import tokenize
from pathlib import Path
from types import ModuleType

import pytest

import mmplugins
from mmplugins.doctor import components, registries
from mmplugins.hosts import HOSTS, problem_with
from mmplugins.models.losses import BaseLoss
from mmplugins.testing.losses import LossContract

ROOT = Path(__file__).parents[1]
COMPONENTS = [
    pytest.param(registries()[registry].module_dict[name], id=f'{registry}.{name}')
    for registry, name, reason in components()
    if reason is None
]
LOSSES = [cls for name, cls in registries()['MODELS'].module_dict.items() if inspect.isclass(cls)]
LOSSES = [pytest.param(cls, id=cls.__name__) for cls in LOSSES if issubclass(cls, BaseLoss)]
SHARED = ['loss_weight', 'ignore_index', 'reduction', 'loss_name']
CALL = ('pred', 'target', 'weight', 'avg_factor', 'reduction_override', 'ignore_index')


def sources(*folders: str) -> str:
    return '\n'.join(path.read_text() for folder in folders for path in sorted((ROOT / folder).rglob('*.py')))


TESTS = sources('tests').replace(Path(__file__).read_text(), '')
CONFIGS, TOOLS = sources('configs'), sources('tools', 'benchmarks')


def test_there_are_components():
    names = {param.values[0].__name__ for param in COMPONENTS}
    assert {'OhemCrossEntropyLoss', 'TopKCrossEntropyLoss', 'SoftJaccardLoss', 'CamVidDataset'} <= names
    assert len(LOSSES) >= 3


@pytest.mark.parametrize('cls', COMPONENTS)
def test_has_a_test(cls):
    assert re.search(rf'\b{cls.__name__}\b', TESTS), f'no test names {cls.__name__}'


@pytest.mark.parametrize('cls', COMPONENTS)
def test_is_used(cls):
    used = f"'mmplugins.{cls.__name__}'" in CONFIGS + TOOLS or re.search(rf'\b{cls.__name__}\(', TOOLS)
    assert used, f'no config and no tool uses {cls.__name__}'


@pytest.mark.parametrize('cls', COMPONENTS)
def test_docstring_names_every_argument(cls):
    doc = inspect.getdoc(cls)
    assert doc, f'{cls.__name__} has no docstring'
    parameters = inspect.signature(cls.__init__).parameters.values()
    own = [p.name for p in parameters if p.name != 'self' and p.kind is not p.VAR_POSITIONAL]
    if '__init__' in vars(cls):
        missing = [name for name in own if not re.search(rf'^\s*\**{name}\b.*:', doc, re.M)]
        assert missing == [], f'{cls.__name__} does not document {missing}'


@pytest.mark.parametrize('cls', LOSSES)
def test_loss_states_shapes_and_errors(cls):
    doc = inspect.getdoc(cls)
    for part in ('Shape:', 'Raises:', 'Examples:', '(N, ', 'loss_weight:', 'loss_name:'):
        assert part in doc, f'{cls.__name__} lacks {part!r}'


@pytest.mark.parametrize('cls', LOSSES)
def test_loss_takes_the_common_call(cls):
    parameters = inspect.signature(cls.forward).parameters
    assert tuple(parameters)[1:7] == CALL
    assert parameters['kwargs'].kind is inspect.Parameter.VAR_KEYWORD
    assert cls().loss_name.startswith('loss_')


@pytest.mark.parametrize('cls', LOSSES)
def test_settings_of_a_loss_are_keywords_in_one_order(cls):
    parameters = list(inspect.signature(cls).parameters.values())
    assert {p.kind for p in parameters} == {inspect.Parameter.KEYWORD_ONLY}
    assert [p.name for p in parameters][-len(SHARED) :] == SHARED
    names = re.findall(r'^    (\w+): ', inspect.getdoc(cls).split('Args:')[1].split('\n\n')[0], re.M)
    assert names == [p.name for p in parameters]


@pytest.mark.parametrize('cls', LOSSES)
def test_loss_is_under_contract(cls):
    assert re.search(rf"loss_type = '{cls.__name__}'", TESTS), f'no {LossContract.__name__} of {cls.__name__}'


MODULES = [
    module.name for module in pkgutil.walk_packages(mmplugins.__path__, 'mmplugins.') if '.mim' not in module.name
]


def imported(name: str) -> ModuleType | None:
    """A module of ours; None if it needs a toolbox that is not there."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or '').split('.')[0].replace('pycocotools', 'mmdet')  # with which it comes
        if missing in HOSTS and problem_with(missing):
            return None
        raise


def test_examples_were_found():
    found = [doctest.DocTestFinder().find(module) for module in map(imported, MODULES) if module]
    assert sum(bool(example.examples) for tests in found for example in tests) >= 3


@pytest.mark.parametrize('name', MODULES)
def test_docstring_examples(name):
    module = imported(name)
    if module is None:
        pytest.skip(f'{name} needs a toolbox that is not installed')
    assert doctest.testmod(module).failed == 0


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold code: no docstring, no comment, not blank."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            docstrings.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in nothing:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - docstrings


def test_code_lines_are_counted():
    lines = ['"""A module.', '', 'Of two lines.', '"""', '', '# why', 'x = """a', 'b"""  # text is code']  # 1 to 8
    lines += ['', 'def f():', '    """Does it."""', '    return (', '        x', '', '    )']  # 9 to 15
    source = '\n'.join(lines)
    assert code_lines(source) == {7, 8, 10, 12, 13, 15}


def test_module_headers_and_lengths():
    files = [path for path in (ROOT / 'mmplugins').rglob('*.py') if '.mim' not in path.parts]
    assert len(files) > 20
    for path in files:
        source = path.read_text()
        assert source.startswith('"""'), f'{path} does not open with a docstring'
        count = len(code_lines(source))
        assert count <= 300, f'{path} has {count} lines of code; 300 is the limit'


def test_files_named_in_the_docs_exist():
    documents = [
        ROOT / 'README.md',
        ROOT / 'CONTRIBUTING.md',
        *(ROOT / 'docs').glob('*.md'),
        *ROOT.glob('configs/*/*.md'),
    ]
    named = {
        (document.relative_to(ROOT).as_posix(), path)
        for document in documents
        for path in re.findall(
            r'(?<![\w/])(?:mmplugins|tools|configs|docs|tests|benchmarks)/[\w/.-]*\.(?:py|md|sh)\b',
            document.read_text(),
        )
    }
    assert len(named) > 30
    assert [pair for pair in sorted(named) if not (ROOT / pair[1]).exists()] == []
