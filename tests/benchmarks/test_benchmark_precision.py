"""The benchmark of precisions trains all four models from the same weights."""

import sys

import pytest

from tests.locations import ROOT
from tests.tools.tiny_run import make_data, run_here, write_config

pytest.importorskip('mmseg', reason='the tiny network is of mmseg')
sys.path.insert(0, str(ROOT / 'benchmarks'))

import benchmark_precision


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path / 'tiny.py', make_data(tmp_path / 'data'))


def test_command_line(config, capsys):
    run_here(benchmark_precision.main, config, '--steps', 2)
    rows = [line.split() for line in capsys.readouterr().out.strip().splitlines()[-4:]]
    assert [row[0].rstrip(',') for row in rows] == ['float32', 'float32', 'bfloat16', 'bfloat16']
    assert ['last' in row for row in rows] == [False, True, False, True]
    losses = [float(row[-1]) for row in rows]
    assert losses == pytest.approx([losses[0]] * 4, rel=0.05)
    assert losses[2] != losses[0]  # of another precision
    assert rows[0][3] == '1.00x'


def test_errors(config):
    with pytest.raises(SystemExit, match='should be OptimWrapper, got ApexOptimWrapper'):
        run_here(benchmark_precision.main, config, '--cfg-options', 'optim_wrapper.type=ApexOptimWrapper')
    with pytest.raises(SystemExit, match='there is no such folder'):
        run_here(benchmark_precision.main, config, '--cfg-options', 'train_dataloader.dataset.data_root=nowhere')
