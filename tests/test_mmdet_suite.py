"""mmdet's own tests of the Hungarian assigner, of match costs and of DETR pass with our classes in place of theirs.

The tests are not part of mmdet's distribution: ``MMDET_TESTS`` names the folder ``tests`` of a checkout.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmplugins.hosts import problem_with
from tests.locations import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(problem_with('mmdet')), reason=str(problem_with('mmdet'))),
]
COSTS = ['BBoxL1Cost', 'ClassificationCost', 'IoUCost']
ASSIGNERS, DETECTORS = 'test_models/test_task_modules/test_assigners', 'test_models/test_detectors'
SUITES = {
    f'{ASSIGNERS}/test_hungarian_assigner.py': [*COSTS, 'BatchHungarianAssigner', 'CrossEntropyLossCost', 'DiceCost'],
    f'{ASSIGNERS}/test_topk_hungarian_assigner.py': [*COSTS, 'FocalLossCost'],
    f'{DETECTORS}/test_detr.py': [*COSTS, 'BatchHungarianAssigner', 'DETRHead'],
    f'{DETECTORS}/test_conditional_detr.py': ['BatchHungarianAssigner', 'FocalLossCost'],
    f'{DETECTORS}/test_deformable_detr.py': ['BatchHungarianAssigner', 'FocalLossCost'],
    f'{DETECTORS}/test_maskformer.py': ['BatchHungarianAssigner', 'DiceCost', 'FocalLossCost'],
}
OWN = """
import mmdet.models
import pytest
from mmdet.models.dense_heads import DETRHead
from mmdet.models.task_modules.assigners import HungarianAssigner, IoUCost
from mmdet.registry import TASK_UTILS
from mmdet.testing import get_detector_cfg
from mmdet.utils import register_all_modules

register_all_modules()

def test_names():
    for cls in (HungarianAssigner, IoUCost, DETRHead):
        assert cls.__module__.startswith('mmplugins')
    with pytest.raises(AssertionError):
        HungarianAssigner([])

def test_configs():
    costs = get_detector_cfg('detr/detr_r50_8xb2-150e_coco.py').train_cfg.assigner.match_costs
    assigner = TASK_UTILS.build(dict(type='HungarianAssigner', match_costs=costs))
    assert all(type(cost).__module__.startswith('mmplugins') for cost in assigner.match_costs)
    assert type(assigner).__module__.startswith('mmplugins')
"""


def run_in_place(path: Path) -> str:
    """Runs tests with our classes in place, in a process of its own, and gives what pytest said."""
    command = [
        sys.executable,
        '-m',
        'pytest',
        '-q',
        '-p',
        'tests.in_place_of_mmdet',
        '-p',
        'no:cacheprovider',
        str(path),
    ]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, cwd=path.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(output: str) -> set[str]:
    line = next(line for line in output.splitlines() if line.startswith('built in place of mmdet: '))
    return set(line.partition('[')[2].rstrip(']').replace("'", '').split(', '))


def test_our_classes_are_put_in_place(tmp_path):
    path = tmp_path / 'test_own.py'
    path.write_text(OWN)
    assert built(run_in_place(path)) == {*COSTS, 'BatchHungarianAssigner'}


@pytest.mark.parametrize('suite', SUITES)
def test_suite(suite):
    folder = os.environ.get('MMDET_TESTS')
    if not folder:
        pytest.skip("set MMDET_TESTS to the folder 'tests' of a checkout of mmdetection 3.x")
    path = Path(folder) / suite
    if not path.is_file():
        pytest.skip(f'this mmdet has no {path}')
    if 'parameterized' in path.read_text():
        pytest.importorskip('parameterized', reason='these tests of mmdet need the package parameterized')
    assert set(SUITES[suite]) <= built(run_in_place(path))
