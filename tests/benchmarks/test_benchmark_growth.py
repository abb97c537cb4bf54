"""The benchmark of many objects: what it prints and draws, and that memory does not grow with their square."""

import sys

import pytest

from tests.locations import ROOT

pytest.importorskip('mmdet', reason="the head is mmdet's")
sys.path.insert(0, str(ROOT / 'benchmarks'))

import benchmark_growth

SIZE = ['--layers', '2', '--queries', '5', '--logit-size', '16', '--mask-size', '64', '--rounds', '1']


def test_command_line(tmp_path, capsys):
    benchmark_growth.main([*SIZE, '--objects', '50', '200', '400', '--plot', str(tmp_path / 'of' / 'growth.png')])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ['objects', 'ms', 'peak', 'MiB', 'masks', 'MiB'] in lines
    assert [line[0] for line in lines[-3:]] == ['50', '200', '400']
    peaks = [float(line[2]) for line in lines[-3:]]
    assert 0 < peaks[0] < peaks[1] < peaks[2] < 2.5 * peaks[1]
    assert (tmp_path / 'of' / 'growth.png').read_bytes().startswith(b'\x89PNG')
