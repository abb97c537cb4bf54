import pytest

from mmplugins.hosts import problem_with

if problem_with('mmseg'):
    pytest.skip(str(problem_with('mmseg')), allow_module_level=True)


@pytest.mark.slow
def test_nothing_is_lost(tmp_path):
    """Three kills here; docs/reliability.md tells what came of 30."""
    from tests.reliability.kill_at_random import INTERVAL, MOMENTS, kill_and_resume

    report = kill_and_resume(tmp_path, kills=3)
    assert report.kills == dict.fromkeys(MOMENTS, 1)
    assert max(report.lost) <= INTERVAL
    assert report.equal
