"""``mmplugins.functional`` in an interpreter that refuses the toolboxes, and what is said when one is wanted."""

import re
import subprocess
import sys

from tests.locations import ROOT

REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmengine', 'mmcv', 'mmdet', 'mmseg'):
            raise ModuleNotFoundError(f'No module named {name!r}')

sys.meta_path.insert(0, Refuse())
"""


def run_without_toolboxes(code: str) -> subprocess.CompletedProcess:
    command = [sys.executable, '-W', 'ignore', '-c', REFUSE + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_every_module_of_functional_is_imported_and_computes():
    code = """
import importlib, pkgutil
import mmplugins, mmplugins.functional
names = [x.name for x in pkgutil.walk_packages(mmplugins.functional.__path__, 'mmplugins.functional.')]
for name in names:
    importlib.import_module(name)

import torch
from mmplugins.functional.pixels.cross_entropy import pixel_cross_entropy
from mmplugins.functional.pixels.hard_pixels import ohem_pixels
label = torch.zeros(1, 2, 3, dtype=torch.long)
loss = pixel_cross_entropy(torch.zeros(1, 4, 2, 3), label, 255)
hard = ohem_pixels(torch.zeros(1, 4, 2, 3), label, loss, 0.7, 2)
print(len(names), round(float((loss * hard.kept).mean()), 4))
"""
    done = run_without_toolboxes(code)
    assert done.returncode == 0, done.stderr
    modules, value = done.stdout.split()
    assert int(modules) == len(list(modules_of_functional()))
    assert value == '1.3863'  # log 4


def modules_of_functional():
    """Files and packages below ``mmplugins/functional``."""
    folder = ROOT / 'mmplugins' / 'functional'
    yield from (path for path in folder.rglob('*.py') if path.parent != folder or path.name != '__init__.py')


def test_what_needs_mmengine_says_so_and_the_doctor_reports():
    names = {
        'mmplugins.registry': 'the registry of mmplugins',
        'mmplugins.models.losses': 'the registry of mmplugins',
        'mmplugins.evaluation.metrics': 'the registry of mmplugins',
        'mmplugins.models.task_modules.assigners': 'the registry of mmplugins',
        'mmplugins.datasets': 'the registry of mmplugins',
        'mmplugins.conversion.convert': 'mmplugins.conversion',
        'mmplugins.engine.launch': 'mmplugins.engine',
        'mmplugins.engine.hooks': 'mmplugins.engine',
    }
    code = f"""
from importlib import import_module
from mmplugins.doctor.__main__ import main
for name in {list(names)}:
    try:
        import_module(name)
    except ImportError as error:
        print(error)
main([])
"""
    done = run_without_toolboxes(code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    problem = lines[0].partition(' needs mmengine: ')[2]
    # which of the two depends on what else is installed
    command = r'pip install (onedl-mmengine==0\.10\.12|mmengine==0\.10\.7)'
    assert re.fullmatch(rf'mmengine is not installed; run `{command}`\.', problem)
    assert lines[: len(names)] == [f'{component} needs mmengine: {problem}' for component in names.values()]
    assert lines[-1] == f'No component can be built here: {problem} mmplugins.functional works without it.'


def test_a_config_names_ours_where_there_is_mmengine():
    code = 'import mmplugins; from mmengine.config.utils import MODULE2PACKAGE as table; print(table["mmplugins"])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.strip() == 'mmplugins', done.stderr
