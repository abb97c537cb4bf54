import pytest

from mmplugins.hosts import problem_with

if problem_with('mmseg'):
    pytest.skip(str(problem_with('mmseg')), allow_module_level=True)


@pytest.mark.slow
def test_a_fault_is_told(tmp_path):
    """One here; docs/reliability.md tells what came of every kind in every family."""
    from tests.reliability.bad_data import prepare, run

    said = run(prepare('folder', 'mask_label', tmp_path), tmp_path / 'log')
    assert said.startswith('SystemExit: train.py: error: ')
    assert f'{tmp_path}/data/annotations/1.png: LoadAnnotations: the label map has the labels [77]' in said
