"""What the documentation says about names, texts and files is so; ``make docs`` checks links and headings beside."""

import ast
import importlib
import importlib.util
import re
import types
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mmplugins import registry
from mmplugins.models import losses
from tests.locations import ROOT
from tests.toolboxes import need

DOCS = ROOT / 'docs'
PAGES = [
    ROOT / 'README.md',
    *ROOT.glob('configs/*/README.md'),
    *DOCS.glob('[a-z]*.md'),
]  # not docs/README.md, their list


@cache
def texts_of_the_code() -> list[str]:
    """Every string of the package and its tools, what is filled in shown as '…'."""
    texts = []
    for path in [*(ROOT / 'mmplugins').rglob('*.py'), *(ROOT / 'tools').rglob('*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else '…' for part in node.values]
                texts.append(''.join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def rows(page: str) -> list[list[str]]:
    """The cells of the tables of a page, without heads."""
    lines = re.findall(r'^\| (.*) \|$', (DOCS / page).read_text(), re.MULTILINE)
    return [cells for line in lines if (cells := line.split(' | '))[0].startswith('`')]


ERRORS = [cells[0].split('`')[1] for cells in rows('errors.md')]


def test_errors_were_found():
    assert len(ERRORS) > 20


@pytest.mark.parametrize('text', ERRORS)
def test_explained_error_is_in_the_code(text):
    pattern = '.*'.join(re.escape(part) for part in text.split('…'))
    assert any(re.search(pattern, found, re.DOTALL) for found in texts_of_the_code()), text


MOVES = [(cells[0], cells[1]) for cells in rows('migration.md')]


def test_moves_were_found():
    assert len(MOVES) > 15


@pytest.mark.parametrize(('old', 'new'), MOVES)
def test_migration_names_real_types(old, new):
    theirs = old.split('`')[1]
    ours = re.search(r'mmplugins\.(\w+)', new)[1]
    need('mmdet', 'mmseg')
    for module in ('mmdet.models', 'mmdet.visualization', 'mmseg.models'):
        importlib.import_module(module)  # fills the toolboxes' registries
    kinds = [value for name, value in vars(registry).items() if name.isupper() and hasattr(value, 'get')]
    assert len(kinds) > 5
    assert any(kind.get(f'mmplugins.{ours}') for kind in kinds), ours
    parents = [
        host
        for kind in kinds
        for host in (f'mmdet.{theirs}', f'mmseg.{theirs}', f'mmengine.{theirs}')
        if kind.get(host)
    ]
    assert parents or theirs == 'SegTTAModel', theirs


def test_every_page_is_in_the_contents_and_the_list():
    tree = yaml.safe_load((DOCS / '_toc.yml').read_text())
    listed = {tree['root'], *(entry['file'] for part in tree['subtrees'] for entry in part['entries'])}
    pages = {path.relative_to(ROOT).with_suffix('').as_posix() for path in PAGES}
    assert listed - {'CONTRIBUTING', 'CHANGELOG', 'docs/README'} == pages
    index = (DOCS / 'README.md').read_text()
    for page in pages - {'README'}:
        link = Path(page).relative_to('docs').as_posix() if page.startswith('docs/') else f'../{page}'
        assert f'({link}.md)' in index, page


def drawing() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location('draw_losses', DOCS / 'draw_losses.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_loss_has_a_picture():
    named = {name for name in losses.__all__ if name.endswith(('Loss', 'Criterion')) and not name.startswith('Base')}
    assert named == set(drawing().PICTURES)
    text = (DOCS / 'loss_pictures.md').read_text()
    for name in named:
        assert f'## {name}\n' in text
        assert (DOCS / 'images' / 'losses' / f'{name}.png').is_file()


def test_the_pictures_are_drawn_from_the_losses(tmp_path, monkeypatch):
    pytest.importorskip('matplotlib', minversion='3.11', reason='older ones put labels elsewhere')
    module = drawing()
    monkeypatch.setattr('sys.argv', ['draw_losses.py', '--out', str(tmp_path)])
    module.main()
    for name in module.PICTURES:
        drawn, shipped = (
            np.asarray(Image.open(folder / f'{name}.png').convert('RGB'), dtype=float)
            for folder in (tmp_path, DOCS / 'images' / 'losses')
        )
        assert drawn.shape == shipped.shape
        assert abs(drawn - shipped).mean() < 3  # of 255: fonts and the palette may differ
