import subprocess
import sys

import pytest

from mmplugins.hosts import problem_with
from tests.locations import ROOT

if problem_with('mmseg'):
    pytest.skip(str(problem_with('mmseg')), allow_module_level=True)

MOUNT = 'mount -t tmpfs -o size=16m none "$0"'


@pytest.mark.slow
def test_nothing_is_lost(tmp_path):
    """Three full disks here; docs/reliability.md tells what came of 30."""
    try:
        may = subprocess.run(['unshare', '-rm', 'sh', '-c', MOUNT, tmp_path], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip('there is no unshare (util-linux) to mount a small disk with')
    if may.returncode:
        pytest.skip(f'no small disk can be mounted here: {may.stderr.strip()}')
    command = [sys.executable, ROOT / 'tests/reliability/full_disk.py', tmp_path, '--times', '3']
    done = subprocess.run(
        ['unshare', '-rm', 'sh', '-c', f'{MOUNT} && exec "$@"', tmp_path, *command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith('3 full disks, 0 had room enough, 0 without a clear line; ')
